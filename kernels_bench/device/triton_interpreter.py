"""Triton's interpreter, under which a kernel can be checked without a GPU."""

from __future__ import annotations

import os
from collections.abc import Mapping

ROWS_ALIKE = {"OPENBLAS_CORETYPE": "Sandybridge"}
"""See `treat_rows_alike`."""


def interpreting(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether Triton kernels run under its interpreter in a process with these environment variables."""
    return variables.get("TRITON_INTERPRET", "0") not in {"", "0"}


def treat_rows_alike() -> None:
    """Have the interpreter's matrix products treat all rows of a tile alike.

    The interpreter has NumPy multiply the tiles of a ``tl.dot``.  In OpenBLAS' kernels for Haswell and Zen a row's bits
    depend on its place in the tile, as they do not on an H100: a kernel would be called variant for what is NumPy's.
    In those for Sandy Bridge they do not either.  Processes started after this inherit it, and a run records it.
    """
    if interpreting():
        os.environ.update(ROWS_ALIKE)
