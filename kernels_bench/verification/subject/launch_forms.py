"""Where a batch's rows lie in memory, and what runs beside their launch: forms in which an engine hands them over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from kernels_bench.device.triton_interpreter import interpreting
from kernels_bench.operators import RowTensors
from kernels_bench.records.cases import Launch
from kernels_bench.verification.bitwise import bits

_ASIDE = 64
"""Elements between rows that are a view: so many keep the address of each row as aligned as it was."""
_AROUND = 128
"""Rows of NaN before and after the batch's own, likewise."""
_BLOCKS = range(9, 26)
"""Of the device's free memory blocks of 2^9 to 2^25 bytes are filled: what kernels take for workspaces."""

_LAUNCHES_BESIDE = 2
"""Launches on another stream before the one that is looked at, and as many after it."""


class FormRefused(RuntimeError):  # noqa: N818 - a finding about the kernel, not an error of ours
    """A kernel does not take rows in some form, or cannot be launched so; the message says why."""


def laid_out(inputs: RowTensors, form: Launch) -> RowTensors:
    """A batch's inputs with the same values, elsewhere in memory: its floating-point tensors of at least one row.

    Args:
        inputs: tensors whose dimension 0 counts rows, and others, which stay as they are.
        form: ``view``, ``offset`` or ``padded``; of another the inputs themselves come back.
    """
    place = {"view": _as_view, "offset": _at_odd_address, "padded": _between_nan}.get(form)
    if place is None:
        return inputs
    return tuple(place(tensor) if tensor.is_floating_point() and tensor.dim() > 1 else tensor for tensor in inputs)


def _as_view(rows: torch.Tensor) -> torch.Tensor:
    """Rows of a wider tensor, as slices of a fused projection are."""
    width = rows[0].numel()
    wide = rows.new_full((len(rows), width + 2 * _ASIDE), torch.nan)
    view: torch.Tensor = wide[:, _ASIDE : _ASIDE + width].unflatten(1, rows.shape[1:])
    view.copy_(rows)
    return view


def _at_odd_address(rows: torch.Tensor) -> torch.Tensor:
    """A little after the address that the allocator gives.

    By one element on a CPU. On a GPU by 16 bytes, to which every slice of a tensor that engines make is aligned: a
    kernel that loads as many at once from elsewhere would be lost with its whole process.
    """
    aside = 16 // rows.element_size() if rows.is_cuda else 1
    flat = rows.new_full((rows.numel() + aside,), torch.nan)
    moved = flat[aside:].view(rows.shape)
    moved.copy_(rows)
    return moved


def _between_nan(rows: torch.Tensor) -> torch.Tensor:
    around = rows.new_full((len(rows) + 2 * _AROUND, *rows.shape[1:]), torch.nan)
    within = around[_AROUND : _AROUND + len(rows)]
    within.copy_(rows)
    return within


def fill_free_memory(device: torch.device) -> None:
    """Leave NaN, in whatever dtype it is read, in free blocks of a GPU's memory; a CPU's `poisoned_allocations` do."""
    if device.type == "cuda":
        for block in [torch.empty(1 << size, dtype=torch.uint8, device=device) for size in _BLOCKS for _ in range(2)]:
            bits(block.view(torch.float32)).fill_(-1)


@contextmanager
def beside(other: Callable[[], object], device: torch.device) -> Iterator[None]:
    """Have ``other``, a launch, run again and again at the same time as what is done within.

    On a GPU on another stream; on a CPU in another thread.

    Raises:
        FormRefused: two launches at a time are not possible here.
    """
    if interpreting():
        raise FormRefused("Triton's interpreter runs one kernel at a time")
    yield from _on_another_stream(other) if device.type == "cuda" else _in_another_thread(other)


def _on_another_stream(other: Callable[[], object]) -> Iterator[None]:
    here, there = torch.cuda.current_stream(), torch.cuda.Stream()
    there.wait_stream(here)
    held = []
    with torch.cuda.stream(there):
        held += [other() for _ in range(_LAUNCHES_BESIDE)]
    yield
    with torch.cuda.stream(there):
        held += [other() for _ in range(_LAUNCHES_BESIDE)]
    # Their memory must not be given out again before they are done.
    torch.cuda.synchronize()
    held.clear()


def _in_another_thread(other: Callable[[], object]) -> Iterator[None]:
    begun, done = threading.Event(), threading.Event()

    def work() -> None:
        while not done.is_set():
            begun.set()
            try:
                other()
            except Exception:  # of the two launches the one in the foreground tells
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()
