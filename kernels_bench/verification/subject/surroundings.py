"""What a caller sets around a call of a kernel: modes of torch's, a default dtype, a number of threads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from kernels_bench.records.cases import Launch
from kernels_bench.verification.subject.launch_forms import FormRefused


def set_around(form: Launch, device: torch.device) -> AbstractContextManager[object]:
    """Have something set otherwise than it is, and put it back at the end.

    Args:
        form: ``inference``, ``gradients``, ``default_dtype`` or ``threads``; of another nothing is.
        device: what the kernel runs on.

    Raises:
        FormRefused: it has no meaning there.
    """
    if form == "threads" and device.type != "cpu":
        raise FormRefused("torch's threads compute on a CPU alone")
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


@contextmanager
def _other_threads() -> Iterator[None]:
    """One where there are several, else two."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1 if usual > 1 else 2)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


_SET: Mapping[Launch, Callable[[], AbstractContextManager[object]]] = {
    "inference": torch.inference_mode,
    "gradients": _other_gradients,
    "default_dtype": _another_default_dtype,
    "threads": _other_threads,
}
