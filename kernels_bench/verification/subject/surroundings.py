"""What a caller sets around a call of a kernel: modes of torch's, a default dtype."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from kernels_bench.records.cases import Launch


def set_around(form: Launch) -> AbstractContextManager[object]:
    """Have something set otherwise than it is, and put it back at the end.

    Args:
        form: ``inference``, ``gradients`` or ``default_dtype``; of another nothing is.
    """
    return _SET.get(form, nullcontext)()


@contextmanager
def compiling_nothing() -> Iterator[None]:
    """Have what torch compiled raise an error where it would have to be compiled anew, which takes seconds."""
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and to import it takes a second
        yield
        return
    with torch.compiler.set_stance("fail_on_recompile"):
        yield


def _other_gradients() -> AbstractContextManager[object]:
    """Enabled where they are disabled, and the other way round."""
    return torch.set_grad_enabled(not torch.is_grad_enabled())


@contextmanager
def _another_default_dtype() -> Iterator[None]:
    """The one that an engine sets while a model is made or runs."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if usual is torch.float32 else torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)


_SET: Mapping[Launch, Callable[[], AbstractContextManager[object]]] = {
    "inference": torch.inference_mode,
    "gradients": _other_gradients,
    "default_dtype": _another_default_dtype,
}
