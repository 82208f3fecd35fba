"""Where a batch's rows lie in memory, and what runs beside their launch: forms in which an engine hands them over."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle

import torch

from kernels_bench.device.kinds.known import accelerator
from kernels_bench.device.triton_interpreter import interpreting
from kernels_bench.operators import RowTensors, Tensors
from kernels_bench.records.cases import Launch
from kernels_bench.verification.bitwise import bits

_ASIDE = 64
"""Elements between rows that are a view: so many keep the address of each row as aligned as it was."""
_AROUND = 128
"""Rows of others before and after the batch's own, likewise."""
_ORDINARY = 0.75
"""A number that all dtypes have: of eight bits some keep two of a fraction."""
_HEADS_APART, _OF_EACH_HEAD = 3, 3
"""At multiples of so many M heads lie apart, as where a projection gives each its query, key and value."""
_COLUMNS = 3
"""Of a table of parameters, of which a number a row is one."""
_PARTS = {2: 3, 4: 2}
"""At M of so many beyond a multiple of `_TURNS_OF_PARTS`, rows are the first of so many parts of a projection's."""
_TURNS_OF_PARTS = 5
_TURNS_OF_VIEWS = 4
"""Of so many M that follow each other one has the first of several tensors alone as a view, and one the last."""
_BLOCKS = range(9, 26)
"""Of the device's free memory blocks of 2^9 to 2^25 bytes are filled: what kernels take for workspaces."""

_BESIDE_WEIGHTS, _MOST_WEIGHTS = 1024, 1 << 28
"""Elements before and after weights, and the bytes of the largest that are copied for it."""
_LATER = (0.0, 0.125)
"""Of each other launch one begins at once, and one later by such a share of what it takes to launch all of them."""
_CYCLES_S, _LONGEST_HELD_S = 2e9, 0.005


class FormRefused(RuntimeError):  # noqa: N818 - a finding about the kernel, not an error of ours
    """A kernel does not take rows in some form, or cannot be launched so; the message says why."""


def laid_out(inputs: RowTensors, form: Launch) -> RowTensors:
    """A batch's inputs with the same values, elsewhere in memory: its floating-point tensors of rows.

    As ``padded`` its whole numbers are too, and numbers that are rows by themselves, where all it has are rows. So they
    are on a CPU as ``view``, and tables of whole numbers, such as of pages, beside other rows too.

    Args:
        inputs: tensors whose dimension 0 counts rows, and others, which stay as they are.
        form: ``view``, ``offset`` or ``padded``; of another the inputs themselves come back.
    """
    places = _moved_in(form, inputs)
    return tuple(_PLACES[form](tensor) if number in places else tensor for number, tensor in enumerate(inputs))


def undisturbed(moved: RowTensors, form: Launch) -> list[torch.Tensor]:
    """Whether what lies beside rows that `laid_out` moved is still as it was: booleans on the device.

    The rows themselves are overwritten by this.
    """
    places = _moved_in(form, moved)
    return [_still_alone(moved[number]) for number in places if form == "padded" or moved[number].is_floating_point()]


def _moved_in(form: Launch, inputs: RowTensors) -> list[int]:
    """Which of a batch's tensors lie elsewhere: of several, not as ``padded``, at some M one alone, another in turn."""
    if form not in _PLACES:
        return []
    if form == "padded" and all(len(tensor) == len(inputs[0]) for tensor in inputs):
        return [*range(len(inputs))]
    # A kernel on a GPU that reads whole numbers from elsewhere may be lost with its whole process.
    whole_too = form == "view" and inputs[0].device.type == "cpu"
    every = whole_too and all(len(tensor) == len(inputs[0]) for tensor in inputs)
    holding = [
        number
        for number, tensor in enumerate(inputs)
        if every or (tensor.dim() > 1 and (whole_too or tensor.is_floating_point()))
    ]
    if form not in ("view", "offset") or len(holding) < 2:
        return holding
    round_, turn = divmod(len(inputs[holding[0]]), _TURNS_OF_VIEWS)
    alone = ({0: -1 - round_, 1: round_} if form == "view" else {1: round_}).get(turn)
    return holding if alone is None else [holding[alone % len(holding)]]


def _still_alone(rows: torch.Tensor) -> torch.Tensor:
    whole = whole_memory(rows, rows.dtype)
    if not rows.is_floating_point():
        around = whole.reshape(len(rows) + 2 * _AROUND, -1)
        return ((around[:_AROUND] == around[0]) & (around[-_AROUND:] == around[0])).all()
    filling = _filling(rows)
    rows.fill_(filling)
    return whole.isnan().all() if math.isnan(filling) else (whole.float() == filling).all()


def _filling(rows: torch.Tensor) -> float:
    """What lies beside rows: NaN, which harms whoever reads it, or a number, since one added to a NaN does not show."""
    return math.nan if len(rows).bit_length() % 2 else _ORDINARY


def whole_memory(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """All of the memory that a tensor lies in, as numbers of a dtype."""
    return torch.empty(0, dtype=dtype, device=tensor.device).set_(tensor.untyped_storage())


def _as_view(rows: torch.Tensor) -> torch.Tensor:
    """Rows of a wider tensor, as slices of a fused projection are; on a CPU at odd M with odd strides.

    Where a row has heads, these lie apart at some M.
    """
    if rows.dim() > 2 and len(rows) % _HEADS_APART == 0:
        apart = rows.new_full((*rows.shape[:-1], _OF_EACH_HEAD, rows.shape[-1]), _filling(rows))
        return apart[..., _OF_EACH_HEAD // 2, :].copy_(rows)
    if not rows.is_floating_point():
        return _among_valid(rows)
    if rows.dim() == 1:
        return rows.new_full((len(rows), _COLUMNS), _filling(rows))[:, _COLUMNS // 2].copy_(rows)
    width = rows[0].numel()
    more = len(rows) % 2 if rows.device.type == "cpu" else 0
    parts = _PARTS.get(len(rows) % _TURNS_OF_PARTS)
    first, whole = (0, parts * width) if parts else (_ASIDE, width + 2 * _ASIDE + more)
    wide = rows.new_full((len(rows), whole), _filling(rows))
    view: torch.Tensor = wide[:, first : first + width].unflatten(1, rows.shape[1:])
    view.copy_(rows)
    return view


def _among_valid(rows: torch.Tensor) -> torch.Tensor:
    """Whole numbers, which may be places in memory, beside those of the row before."""
    flat = rows.reshape(len(rows), -1)
    own = torch.cat([flat, flat.roll(1, 0)], 1)[:, : flat.shape[1]]
    return own[:, 0] if rows.dim() == 1 else own.unflatten(1, rows.shape[1:])


def _at_odd_address(rows: torch.Tensor) -> torch.Tensor:
    """A little after the address that the allocator gives.

    On a CPU by one element, or by half of a cache line where M is even. On a GPU by 16 bytes, to which every slice of a
    tensor that engines make is aligned: a kernel that loads as many at once from elsewhere would be lost with its whole
    process.
    """
    aside = 16 // rows.element_size()
    if rows.device.type == "cpu":
        aside = 1 if len(rows) % 2 else 2 * aside
    flat = rows.new_full((rows.numel() + aside,), _filling(rows))
    moved = flat[aside:].view(rows.shape)
    moved.copy_(rows)
    return moved


def _between_others(rows: torch.Tensor) -> torch.Tensor:
    """Between rows of `_filling`; of whole numbers, which may be places in memory, between copies of the first row."""
    size = (len(rows) + 2 * _AROUND, *rows.shape[1:])
    around = rows.new_full(size, _filling(rows)) if rows.is_floating_point() else rows[:1].expand(size).clone()
    within = around[_AROUND : _AROUND + len(rows)]
    within.copy_(rows)
    return within


def between_nan(weights: Tensors) -> Tensors:
    """Copies of weights with NaN before and after them in memory, as aligned as new tensors; whole numbers stay."""
    return tuple(_between_nan(weight) if _is_dense(weight) else weight for weight in weights)


def _is_dense(weight: torch.Tensor) -> bool:
    """Whether it has a number at each place of the memory that it lies in."""
    last = sum((size - 1) * stride for size, stride in zip(weight.shape, weight.stride(), strict=True))
    return weight.is_floating_point() and weight.numel() == last + 1 and weight.nbytes <= _MOST_WEIGHTS


def _between_nan(weight: torch.Tensor) -> torch.Tensor:
    around = weight.new_full((weight.numel() + 2 * _BESIDE_WEIGHTS,), torch.nan)
    return around.as_strided(weight.shape, weight.stride(), _BESIDE_WEIGHTS).copy_(weight)


_PLACES: Mapping[Launch, Callable[[torch.Tensor], torch.Tensor]] = {
    "view": _as_view,
    "offset": _at_odd_address,
    "padded": _between_others,
}


def fill_free_memory(device: torch.device) -> None:
    """Leave NaN, in whatever dtype it is read, in free blocks of a GPU's memory; a CPU's `poisoned_allocations` do."""
    if device.type != "cpu":
        for block in [torch.empty(1 << size, dtype=torch.uint8, device=device) for size in _BLOCKS for _ in range(2)]:
            bits(block.view(torch.float32)).fill_(-1)


@contextmanager
def beside(others: Sequence[Callable[[], object]], device: torch.device) -> Iterator[Callable[[], float]]:
    """Have other launches run again and again at the same time as what is done within.

    On a GPU each on a stream of its own; on a CPU all in another thread, in turn. What comes back counts their
    beginnings and ends: where the count is the same after a call as before, the call had the processor for itself. On a
    GPU it is infinite: all streams are held until there is something on each.

    Raises:
        FormRefused: two launches at a time are not possible here.
    """
    if interpreting():
        raise FormRefused("Triton's interpreter runs one kernel at a time")
    yield from _on_other_streams(others) if device.type != "cpu" else _in_another_thread(others)


def _on_other_streams(others: Sequence[Callable[[], object]]) -> Iterator[Callable[[], float]]:
    """Launch the others on streams of their own, held until all are queued."""
    device = accelerator()
    here = device.api.current_stream()
    begun = [(other, later, device.api.Stream()) for later in _LATER for other in others]
    start = time.perf_counter()
    held = [other() for other in others]
    launching_s = time.perf_counter() - start
    # Most kernels are done before the host has launched another one: all streams are held until all are queued.
    device.hold(_cycles(launching_s * (1 + len(_LATER))))
    for other, later, stream in begun:
        stream.wait_stream(here)
        with device.on(stream):
            if later:
                device.hold(_cycles(launching_s * later))
            held.append(other())
    yield lambda: math.inf
    # Their memory must not be given out again before they are done.
    device.synchronise()
    held.clear()


def _cycles(seconds: float) -> int:
    return int(_CYCLES_S * min(_LONGEST_HELD_S, seconds))


def _in_another_thread(others: Sequence[Callable[[], object]]) -> Iterator[Callable[[], float]]:
    """Launch the others in turn in a thread; the count is of their beginnings and ends."""
    begun, done = threading.Event(), threading.Event()
    ours, counted = cycle(others), 0

    def work() -> None:
        """Launch the others in turn, until what is done within is over."""
        nonlocal counted
        while not done.is_set():
            counted += 1
            begun.set()
            try:
                next(ours)()
            except Exception:  # of the two launches the one in the foreground tells
                return
            finally:
                counted += 1

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    begun.wait()
    try:
        yield lambda: counted
    finally:
        done.set()
        thread.join()
