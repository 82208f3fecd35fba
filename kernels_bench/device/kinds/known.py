"""Every kind of device: to add one is to add a file, and its name here."""

from __future__ import annotations

from kernels_bench.device.kinds import cpu, cuda, npu
from kernels_bench.device.kinds.base import Accelerator, DeviceKind

KINDS: tuple[DeviceKind, ...] = (cuda.KIND, npu.KIND, cpu.KIND)
"""In the order in which they are looked for."""


def kind_here() -> DeviceKind:
    """The first kind of which there is a device; the processor is the last, and always there."""
    return next(kind for kind in KINDS if kind.available())


def kind_of(type: str) -> DeviceKind:  # noqa: A002 - torch's own word
    """The kind of a device of torch's."""
    return next(kind for kind in KINDS if kind.type == type)


def accelerator() -> Accelerator:
    """This machine's.

    Raises:
        RuntimeError: there is none.
    """
    kind = kind_here()
    if not isinstance(kind, Accelerator):
        raise RuntimeError("there is no accelerator here")
    return kind
