"""torch for modules that the parent process imports too: it is loaded when something of it is first used.

What an operator, an arm or a relation is can so be asked without torch; only data and kernels need it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["F", "torch"]


class _Deferred:
    """Stands for a module, and imports it at the first look at one of its attributes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(importlib.import_module(self._name), attribute)
        # Kept, so that the next look finds it as fast as it would in the module itself: kernels are timed.
        setattr(self, attribute, found)
        return found


if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
else:
    torch, F = _Deferred("torch"), _Deferred("torch.nn.functional")
