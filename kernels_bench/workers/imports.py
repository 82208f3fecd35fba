"""Imports that take long, and what they make, which stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def made_to_stay() -> Iterator[None]:
    """Look for no garbage while something is imported, nor ever again among what it made.

    A tenth of the time that torch's import takes goes into that; later it would be done while kernels are timed.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
