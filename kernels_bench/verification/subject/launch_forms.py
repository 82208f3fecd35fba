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
_TURNS_OF_VIEWS, _TURNS_OF_ADDRESSES = 3, 4
"""At one of so many M that follow each other one of several tensors alone lies elsewhere, each of them in turn."""
_FURTHER_TURN = 32
"""After so many M the turn goes on by one more: of M that are multiples of a tile's height each tensor has some."""
_BLOCKS = range(9, 26)
"""Of the device's free memory blocks of 2^9 to 2^25 bytes are filled: what kernels take for workspaces."""

_BESIDE_WEIGHTS, _MOST_WEIGHTS = 1024, 1 << 28
"""Elements before and after weights, and the bytes of the largest that are copied for it."""
_SMALL_WEIGHTS = 1 << 24
"""Bytes of the largest weights that are copied where a larger one's path is a smaller one's too."""
_LATER = (0.0, 0.125)
"""Of each other launch one begins at once, and one later by such a share of what it takes to launch all of them."""
_CYCLES_S, _LONGEST_HELD_S = 2e9, 0.005


class FormRefused(RuntimeError):  # noqa: N818 - a finding about the kernel, not an error of ours
    """A kernel does not take rows in some form, or cannot be launched so; the message says why."""


def laid_out(inputs: RowTensors, form: Launch) -> RowTensors:
    """A batch's inputs with the same values, elsewhere in memory: its floating-point tensors of rows.

    As ``padded`` its whole numbers are too, and numbers that are rows by themselves, where all it has are rows. So they
    are on a CPU as ``view`` and ``offset``; as ``view`` tables of whole numbers, such as of pages, beside others too.

    Args:
        inputs: tensors whose dimension 0 counts rows, and others, which stay as they are.
        form: ``view``, ``offset``, ``columns``, ``transposed``, ``expanded`` or ``padded``; of another the inputs
            themselves come back, as they do as ``expanded`` where they are not all the same row.
    """
    places = _moved_in(form, inputs)
    there = _in_one({number: inputs[number] for number in places}) if form == "view" else {}
    there |= {number: _PLACES[form](inputs[number]) for number in places if number not in there}
    return tuple(there.get(number, tensor) for number, tensor in enumerate(inputs))


def undisturbed(moved: RowTensors, form: Launch) -> list[torch.Tensor]:
    """Whether what lies beside rows that `laid_out` moved is still as it was: booleans on the device.

    The rows themselves are overwritten by this.
    """
    holding = [moved[n] for n in _moved_in(form, moved) if form == "padded" or moved[n].is_floating_point()]
    if form == "expanded":
        holding = [rows for rows in holding if rows.stride(0) == 0]
    for rows in holding:
        if rows.is_floating_point():
            _first_of_all(rows).fill_(_filling(rows))
    return [_still_alone(rows) for rows in holding]


def _moved_in(form: Launch, inputs: RowTensors) -> list[int]:
    """Which of a batch's tensors lie elsewhere: of several, not as ``padded``, at some M one alone, another in turn."""
    if form not in _PLACES:
        return []
    if form == "padded" and all(len(tensor) == len(inputs[0]) for tensor in inputs):
        return [*range(len(inputs))]
    # A kernel on a GPU that reads whole numbers from elsewhere may be lost with its whole process.
    on_cpu = inputs[0].device.type == "cpu"
    whole_too = form == "view" and on_cpu
    every = form in ("view", "offset") and on_cpu and all(len(tensor) == len(inputs[0]) for tensor in inputs)
    holding = [
        number
        for number, tensor in enumerate(inputs)
        if every or (tensor.dim() > 1 and (whole_too or tensor.is_floating_point()))
    ]
    if form not in ("view", "offset") or len(holding) < 2:
        return holding
    m = len(inputs[holding[0]])
    turns = _TURNS_OF_VIEWS if form == "view" else _TURNS_OF_ADDRESSES
    alone = m % turns == (0 if form == "view" else 1)
    return [holding[(m // turns + m // _FURTHER_TURN) % len(holding)]] if alone else holding


def _in_one(inputs: Mapping[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    """Several tensors of a dtype as slices of one, as a projection gives queries and keys; none at some M."""
    numbers = {number: one for number, one in inputs.items() if one.is_floating_point() and one.dim() > 1}
    first = next(iter(numbers.values()), torch.empty(0))
    alike = all(one.dtype is first.dtype and len(one) == len(first) for one in numbers.values())
    if len(numbers) < 2 or not alike or len(first) % _TURNS_OF_VIEWS != 1:
        return {}
    widths = [one[0].numel() for one in numbers.values()]
    wide = first.new_full((len(first), sum(widths) + _ASIDE), _filling(first))
    slices = zip(numbers.items(), wide.split([*widths, _ASIDE], 1), strict=False)
    return {number: part.unflatten(1, one.shape[1:]).copy_(one) for (number, one), part in slices}


def _first_of_all(rows: torch.Tensor) -> torch.Tensor:
    """Of rows that all lie in the same place one."""
    return rows[:1] if rows.stride(0) == 0 else rows


def _still_alone(rows: torch.Tensor) -> torch.Tensor:
    whole = whole_memory(rows, rows.dtype)
    if not rows.is_floating_point():
        around = whole.reshape(len(rows) + 2 * _AROUND, -1)
        return ((around[:_AROUND] == around[0]) & (around[-_AROUND:] == around[0])).all()
    filling = _filling(rows)
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
    before = _filling(rows) if rows.is_floating_point() else int(rows.reshape(-1)[0])
    flat = rows.new_full((rows.numel() + aside,), before)
    moved = flat[aside:].view(rows.shape)
    moved.copy_(rows)
    return moved


def _columns_apart(rows: torch.Tensor) -> torch.Tensor:
    """Every second number of each row's, as where gates stand in turn with what they open."""
    return rows.new_full((*rows.shape, 2), _filling(rows))[..., 0].copy_(rows)


def _turned(rows: torch.Tensor) -> torch.Tensor:
    """Rows of a tensor whose columns, or heads, come before its rows in memory."""
    return rows.transpose(0, 1).clone(memory_format=torch.contiguous_format).transpose(0, 1)


def _one_for_all(rows: torch.Tensor) -> torch.Tensor:
    """Where all rows are the same, as tokens need not be, one for all of them.

    There is memory for as many, in case they are read as if they were there.
    """
    if not bool((bits(rows) == bits(rows[:1])).all()):
        return rows
    memory = torch.full_like(rows, _filling(rows))
    memory[:1].copy_(rows[:1])
    return memory[:1].expand_as(rows)


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


def _between_nan(weight: torch.Tensor, before: int = _BESIDE_WEIGHTS) -> torch.Tensor:
    around = weight.new_full((before + weight.numel() + _BESIDE_WEIGHTS,), torch.nan)
    return around.as_strided(weight.shape, weight.stride(), before).copy_(weight)


def slices_of_wider(weights: Tensors) -> Tensors:
    """Weights whose rows are parts of wider ones, as a rank's are; those of one dimension stay.

    None of all that are made in this file begin where others do in their memory: a kernel that tells weights apart by
    their address and version, as torch counts it, is not given others at the address of earlier ones.
    """
    return tuple(_part_of_wider(weight) if _is_small_matrix(weight) else weight for weight in weights)


def _is_small_matrix(weight: torch.Tensor) -> bool:
    return weight.is_floating_point() and weight.dim() > 1 and weight.nbytes <= _SMALL_WEIGHTS


def _part_of_wider(weight: torch.Tensor) -> torch.Tensor:
    if not weight.is_contiguous():
        return _part_of_wider(weight.mT).mT if weight.mT.is_contiguous() else weight
    wide = weight.new_full((*weight.shape[:-1], 2 * weight.shape[-1] + _ASIDE), torch.nan)
    return wide[..., _ASIDE : _ASIDE + weight.shape[-1]].copy_(weight)


def somewhat_later(weights: Tensors) -> Tensors:
    """Weights that begin as aligned as new tensors, and not where these do."""
    return tuple(_between_nan(weight, _AROUND) if _is_dense(weight) else weight for weight in weights)


def in_flat_buffers(weights: Tensors) -> Tensors:
    """Weights that begin a number after an aligned address, as those that follow others in one buffer may."""
    return tuple(
        _between_nan(weight, 1) if _is_dense(weight) and weight.nbytes <= _SMALL_WEIGHTS else weight
        for weight in weights
    )


_PLACES: Mapping[Launch, Callable[[torch.Tensor], torch.Tensor]] = {
    "view": _as_view,
    "offset": _at_odd_address,
    "columns": _columns_apart,
    "transposed": _turned,
    "expanded": _one_for_all,
    "padded": _between_others,
}


def fill_free_memory(device: torch.device) -> None:
    """Leave NaN, in whatever dtype it is read, in free blocks of a GPU's memory; a CPU's `poisoned_allocations` do."""
    if device.type != "cpu":
        for block in [torch.empty(1 << size, dtype=torch.uint8, device=device) for size in _BLOCKS for _ in range(2)]:
            bits(block.view(torch.float32)).fill_(-1)


@contextmanager
def beside(
    others: Sequence[Callable[[], object]], device: torch.device, at_once: int = 1
) -> Iterator[Callable[[], float]]:
    """Have other launches run again and again at the same time as what is done within.

    On a GPU each on a stream of its own; on a CPU so many ``at_once``, each in a thread that makes all of them in turn.
    What comes back counts their beginnings and ends: where the count is the same after a call as before, the call had
    the processor for itself. On a GPU it is infinite: all streams are held until there is something on each.

    Raises:
        FormRefused: two launches at a time are not possible here.
    """
    if interpreting():
        raise FormRefused("Triton's interpreter runs one kernel at a time")
    yield from _on_other_streams(others) if device.type != "cpu" else _in_other_threads(others, at_once)


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


def _in_other_threads(others: Sequence[Callable[[], object]], at_once: int) -> Iterator[Callable[[], float]]:
    """Launch the others in turn in some threads, each from another one on; the count is of beginnings and ends."""
    done, counted = threading.Event(), [0] * at_once
    begun = [threading.Event() for _ in range(at_once)]

    def work(number: int) -> None:
        """Launch the others in turn, until what is done within is over."""
        for other in cycle([*others[number:], *others[:number]]):
            counted[number] += 1
            begun[number].set()
            try:
                other()
            except Exception:  # of the launches at once the one in the foreground tells
                return
            finally:
                counted[number] += 1
            if done.is_set():
                return

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(at_once)]
    for thread in threads:
        thread.start()
    for event in begun:
        event.wait()
    try:
        yield lambda: sum(counted)
    finally:
        done.set()
        for thread in threads:
            thread.join()
