"""Rows and shared tensors of an operator that a user described: made from the seed, the same on every device."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.inputs.rows import (
    HOSTILE,
    KINDS,
    begin_alike,
    bell_shaped,
    further_rows,
    of_all_bits,
    paired,
    row_table,
    shares_of_one,
    some_are_ordered,
    turned_within,
)
from kernels_bench.operators.inputs.special import subnormal
from kernels_bench.operators.inputs.splitmix64 import hashed
from kernels_bench.records.definition import LARGEST_INTEGER, TENSOR_DTYPES, TensorSpec, evaluated
from kernels_bench.relations.batch import (
    ALIKE,
    FIRST_ALIKE,
    FIRST_IN_COMMON,
    FIRST_SPECIAL,
    FIRST_WHOLE,
    IN_COMMON,
    IN_TURN,
    LONG_NEIGHBOUR,
    SPECIAL,
)

FURTHER = FIRST_SPECIAL + len(SPECIAL)
"""Rows that follow a universe's ordinary ones: hostile and special ones."""

_USUAL_RANGE = 1 << 16
"""Integers without an upper bound are less than this, or than their dtype's largest."""


def torch_dtype_of(spec: TensorSpec, usual: torch.dtype) -> torch.dtype:
    """A tensor's dtype, where the case's is ``usual``."""
    found = getattr(torch, TENSOR_DTYPES[spec.dtype]) if spec.dtype else usual
    assert isinstance(found, torch.dtype)
    return found


@dataclass(frozen=True)
class Making:
    """What all tensors of one case have in common.

    Attributes:
        sizes: of the shape.
        usual: the case's dtype.
        seed: of all data.
        device: where they are made.
    """

    sizes: Mapping[str, int]
    usual: torch.dtype
    seed: int
    device: torch.device


def described_rows(
    spec: TensorSpec, name: str, count: int, making: Making, added: bool, number: int = 0
) -> torch.Tensor:
    """One tensor of a universe, of shape (``count`` + `FURTHER`, …): its rows, then hostile and special ones.

    Floating-point tensors hold what built-in operators' rows do, integers and tensors with a range values of their
    range: hostile rows its ends, special ones other draws and, of ``constant`` and ``largest``, its ends again. Some
    ordinary rows have an end of the range, or a number in common.

    Args:
        spec: of each row.
        name: of the tensor, from which its random numbers come beside the seed.
        count: ordinary rows.
        making: of the case.
        added: whether an earlier tensor of the row holds the special values already, see `rows.special_rows`.
        number: of the tensor among the row's with a range.
    """
    sizes, seed, device = making.sizes, making.seed, making.device
    trailing, dtype = spec.sizes(sizes), torch_dtype_of(spec, making.usual)
    columns = math.prod(trailing)
    if spec.integers or spec.low is not None:
        table = torch.cat([
            _some_in_turn(_within(spec, sizes, hashed(seed, name, 0, count, columns, device)), spec, sizes),
            _further_within(spec, sizes, hashed(0, f"further {name}", 0, FURTHER, columns, device)),
        ])  # fmt: skip
        begin_alike(table[:count])
        some_are_ordered(table[:count], _range(spec, sizes)[0])
        _some_are_round(table[:count], spec)
        _some_are_in_steps(table[:count], spec, sizes)
        _some_are_simple(table[:count], spec, sizes)
        _some_change_nothing(table[:count], spec, sizes, number, first=not (added or number))
        _some_at_the_ends(table[:count], spec, sizes, number)
        _some_are_one(table[:count], spec, sizes)
        _some_are_shares(table[:count], spec, name, making)
        return _some_in_common(table, count).to(dtype).reshape(-1, *trailing)
    made_in = dtype if dtype.itemsize > 1 else torch.float32
    ordinary = row_table(seed, name, count, columns, made_in, device, added)
    table = torch.cat([ordinary, further_rows(columns, made_in, device, added)])
    if made_in is not dtype:
        # Of small numbers, and of shares of one, nearly all would be zero.
        table[:count][KINDS.index("small") :: len(KINDS)] *= _LESS_SMALL
        table[FIRST_IN_COMMON.shares : count : IN_COMMON] *= 2.0 ** round(math.log2(columns))
        begin_alike(table[:count])  # with rows that are not small
        table = _narrowed(table, dtype)
        faint = subnormal(hashed(0, f"{name} subnormal", 0, 1, columns, device)[0], dtype)
        special = table[count + FIRST_SPECIAL :]
        special[SPECIAL.index("subnormal")] = faint
        if not added:
            special[SPECIAL.index("NaN added"), : columns // 2] = faint[: columns // 2]
    return _some_in_common(table, count).reshape(-1, *trailing)


_RUN = 24
"""In every `IN_TURN` rows so many have integers that follow one another, in the first run from the least on."""
_ROUND = 16
"""Slots that begin a page, offsets of tiles and the like are multiples of it."""
_PLAIN = (
    (FIRST_IN_COMMON.nothing, 0b0000),
    (FIRST_IN_COMMON.unit, 0b1111),
    (FIRST_IN_COMMON.led, 0b1010),
    (FIRST_IN_COMMON.ended, 0b0101),
)
"""Of which rows single numbers are 0 or 1: a bit for each of `_TURNS` tensors in turn."""
_TURNS = 4
_AGREEING = FIRST_IN_COMMON.drawn, FIRST_IN_COMMON.another
"""Of which rows several whole numbers are those of another tensor, and of which the first half of them is."""
_LESS_SMALL = 2.0**6
"""What `small` rows are multiplied by in eight bits, where nearly all of them would be zero."""


def _narrowed(table: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The same numbers in eight bits, where these are meant; what is too large is the largest finite one.

    Infinities stay, and are the largest number too where eight bits have none.
    """
    if table.dtype is dtype:
        return table
    most = torch.finfo(dtype).max
    clamped = table.clamp(-most, most)
    return (torch.where(table.isinf(), table, clamped) if dtype is torch.float8_e5m2 else clamped).to(dtype)


def _range(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int | float, int | float]:
    low = 0 if spec.low is None else evaluated(spec.low, sizes)
    if spec.high is not None:
        return low, evaluated(spec.high, sizes)
    most = LARGEST_INTEGER.get(spec.dtype, _USUAL_RANGE)
    return low, min(most + 1, int(low) + _USUAL_RANGE) if spec.integers else low + 1


def _within(spec: TensorSpec, sizes: Mapping[str, int], bits: torch.Tensor) -> torch.Tensor:
    """Random bits as values of a tensor's range."""
    low, high = _range(spec, sizes)
    if spec.integers:
        return (bits >> 16).bitwise_and_((1 << 47) - 1).remainder_(int(high - low)).add_(int(low))
    # Exact steps but for one rounding, so that every device has the same.
    return (bits & ((1 << 24) - 1)).double().mul_(2.0**-24 * (high - low)).add_(low)


def _some_in_turn(table: torch.Tensor, spec: TensorSpec, sizes: Mapping[str, int]) -> torch.Tensor:
    """Of single integers, as positions are, some rows' go up by one from row to row, as in a prefill, or by two."""
    if not spec.integers or table.shape[1] != 1:
        return table
    low, high = map(int, _range(spec, sizes))
    for first in range(0, len(table), IN_TURN):
        run = table[first : first + _RUN]
        steps = torch.arange(len(run), device=run.device)[:, None] * (1 + first // IN_TURN % 2)
        begin = run[:1] - low if first else 0
        run.copy_((begin + steps).remainder(high - low) + low)
    return table


def _some_are_in_steps(table: torch.Tensor, spec: TensorSpec, sizes: Mapping[str, int]) -> None:
    """Whole numbers of some rows go up by one from the least on, as positions of a new sequence do."""
    low, high = _range(spec, sizes)
    if spec.integers and table.shape[1] > 1:
        steps = torch.arange(table.shape[1], device=table.device)
        table[FIRST_IN_COMMON.unit :: IN_COMMON] = steps.remainder(int(high - low)) + int(low)


def _some_are_simple(table: torch.Tensor, spec: TensorSpec, sizes: Mapping[str, int]) -> None:
    """Numbers of some rows are 0 and 1 alone, or a power of two; whole ones are -1, or all of a row the same."""
    low, high = _range(spec, sizes)
    chosen, powers = (table[first::IN_COMMON] for first in (FIRST_IN_COMMON.bits, FIRST_IN_COMMON.powers))
    if spec.integers:
        if low < 0:
            chosen.fill_(-1)
        if table.shape[1] > 1:
            powers.copy_(powers[:, :1].clone().expand_as(powers))
        return
    if low <= 0 and high >= 1 and table.shape[1] > 1:
        chosen.copy_((chosen * 2 >= 1).to(table.dtype))
    drawn = powers[:, :1]
    lower = torch.where(drawn == 0, drawn, drawn / (torch.frexp(drawn).mantissa.abs() * 2))
    powers.copy_(torch.where(lower >= low, lower, torch.where(2 * lower <= high, 2 * lower, drawn)))


def _some_change_nothing(
    table: torch.Tensor, spec: TensorSpec, sizes: Mapping[str, int], number: int, first: bool
) -> None:
    """Parameters of some rows are what changes nothing: 0 or 1, which of them differs from tensor to tensor.

    So all parameters of a row are at their defaults at once, whichever these are. Whole numbers, and whole rows of
    parameters, are 0 where a range has it within; the ``first`` tensor's rows are the data themselves.
    """
    low, high = _range(spec, sizes)
    if spec.integers or table.shape[1] > 1:
        if low < 0 < high and (table.shape[1] == 1 or not first):
            table[FIRST_IN_COMMON.nothing :: IN_COMMON] = 0
        return
    plain = [one for one in (0, 1) if low <= one <= high]
    for row, turns in _PLAIN if plain else ():
        table[row::IN_COMMON] = plain[-(turns >> number % _TURNS & 1)]


def _some_at_the_ends(table: torch.Tensor, spec: TensorSpec, sizes: Mapping[str, int], number: int) -> None:
    """Some rows have the least number of the range, some of every second tensor alone, and some the largest."""
    low, high = _range(spec, sizes)
    alone = FIRST_IN_COMMON.second_least if number % 2 else FIRST_IN_COMMON.first_least
    table[alone::IN_COMMON] = low
    table[FIRST_IN_COMMON.least :: IN_COMMON] = low
    table[FIRST_IN_COMMON.largest :: IN_COMMON] = high - 1 if spec.integers else high


def _some_are_round(table: torch.Tensor, spec: TensorSpec) -> None:
    """Some rows of whole numbers have multiples of 16."""
    if spec.integers and spec.low is None:
        chosen = table[FIRST_IN_COMMON.narrow :: IN_COMMON]
        chosen -= chosen % _ROUND


def _some_are_shares(table: torch.Tensor, spec: TensorSpec, name: str, making: Making) -> None:
    """Where numbers may be shares of one, some rows are; whole numbers of these descend, as masks of padding do."""
    low, high = _range(spec, making.sizes)
    chosen = table[FIRST_IN_COMMON.shares :: IN_COMMON]
    if spec.integers:
        chosen.copy_(chosen.sort(1, descending=True).values)
        return
    if table.shape[1] == 1 or low > 0 or high < 1:
        return
    drawn = bell_shaped(making.seed, f"{name} shares", 0, len(chosen), table.shape[1], making.device)
    chosen.copy_(shares_of_one(drawn))


def _some_in_common(table: torch.Tensor, count: int) -> torch.Tensor:
    """Of single numbers, as temperatures and positions are, some rows have the same."""
    for drawn in (FIRST_IN_COMMON.drawn, FIRST_IN_COMMON.another):
        if table.shape[1] == 1 and count > drawn:
            table[drawn:count:IN_COMMON] = table[drawn].clone()
    return table


def _some_are_one(table: torch.Tensor, spec: TensorSpec, sizes: Mapping[str, int]) -> None:
    """Of single numbers that may be 1, as a temperature that changes nothing is, the first of these are."""
    low, high = _range(spec, sizes)
    if not spec.integers and table.shape[1] == 1 and low < 1 < high:
        table[FIRST_IN_COMMON.drawn : FIRST_IN_COMMON.drawn + 1] = 1


def some_say_the_same(tables: Mapping[str, torch.Tensor], specs: Mapping[str, TensorSpec], making: Making) -> None:
    """Of some rows one tensor says what another does, as where every drafted token is what the model says too.

    Whole numbers are those of an earlier tensor of the same size and range, all of them or the first half. A single one
    below the number of an earlier tensor's columns is where the largest of these stands, as a token that is chosen
    greedily is.
    """
    sizes = making.sizes
    for number, (name, spec) in enumerate(specs.items()):
        earlier = [*specs.items()][:number] if spec.integers else []
        for other, known in earlier:
            drawn, given = (tables[one].view(len(tables[one]), -1) for one in (name, other))
            alike = known.integers and _range(known, sizes) == _range(spec, sizes)
            if alike and 1 < drawn.shape[1] == given.shape[1]:
                _say_as(drawn, given.to(drawn.dtype))
            elif not known.integers and drawn.shape[1] == 1 and _range(spec, sizes) == (0, given.shape[1]):
                chosen = slice(FIRST_IN_COMMON.shares, len(drawn) - FURTHER, IN_COMMON)
                drawn[chosen, 0] = given[chosen].float().argmax(1).to(drawn.dtype)


def _say_as(numbers: torch.Tensor, given: torch.Tensor) -> None:
    whole, begun = (slice(of, len(numbers) - FURTHER, IN_COMMON) for of in _AGREEING)
    half = numbers.shape[1] // 2
    numbers[whole], numbers[begun, :half] = given[whole], given[begun, :half]


def _further_within(spec: TensorSpec, sizes: Mapping[str, int], bits: torch.Tensor) -> torch.Tensor:
    low, high = _range(spec, sizes)
    last = high - 1 if spec.integers else high
    table = _within(spec, sizes, bits)
    table[HOSTILE.index("huge")] = last
    table[HOSTILE.index("zero")] = low
    table[FIRST_SPECIAL + SPECIAL.index("constant")] = low
    table[FIRST_SPECIAL + SPECIAL.index("largest")] = last
    return table


def described_shared(spec: TensorSpec, name: str, making: Making) -> torch.Tensor:
    """A tensor that all rows share: around 1 with one dimension, a matrix whose halves are `paired` with more."""
    sizes, seed, device = making.sizes, making.seed, making.device
    trailing, dtype = spec.sizes(sizes), torch_dtype_of(spec, making.usual)
    columns = math.prod(trailing)
    if spec.integers or spec.low is not None:
        return _within(spec, sizes, hashed(seed, name, 0, 1, columns, device)).to(dtype).reshape(trailing)
    made_in = dtype if dtype.itemsize > 1 else torch.float32
    if len(trailing) > 1:
        table = paired(seed, name, columns // trailing[-1], trailing[-1], made_in, device)
        if made_in is not dtype:  # whose scale is kept apart: the small numbers of a long row would be lost
            table *= 2.0 ** round(math.log2(trailing[-1]) / 2)
    else:
        table = of_all_bits(1 + bell_shaped(seed, name, 0, 1, columns, device) / 8, made_in).to(made_in)
    return _narrowed(table, dtype).reshape(trailing)


def another_number(known: torch.Tensor, spec: TensorSpec, sizes: Mapping[str, int]) -> torch.Tensor:
    """Of a tensor of a single number one with another, in its range."""
    if spec.integers:
        first, end = map(int, _range(spec, sizes))
        return known.long().sub(first - 1).remainder(end - first).add(first).to(known.dtype)
    if spec.low is not None:
        low, high = _range(spec, sizes)
        return known.double().sub(low).add((high - low) / 2).remainder(high - low).add(low).to(known.dtype)
    return turned_within(known)


@lru_cache(64)
def lengths_of_rows(count: int, lengths: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Tokens of each row of a universe and of those that follow it, where rows are packed sequences; read-only.

    The longest and the shortest come first, so that every universe has both; some have one length, and some the lengths
    of whole tiles, a quarter of the longest or a multiple of it. No seed changes them.
    """
    least, most = lengths
    rows = [*(f"row {row}" for row in range(count)), *(f"further {row}" for row in range(FURTHER))]
    found = np.array([least + zlib.crc32(row.encode()) % (most - least + 1) for row in rows])
    found[FIRST_ALIKE:count:ALIKE] = (least + most + 1) // 2
    tile = 1 << max(0, (most // 4).bit_length() - 1)
    whole = -(-found[FIRST_WHOLE:count:ALIKE] // tile) * tile
    found[FIRST_WHOLE:count:ALIKE] = np.where(whole > most, whole - tile, whole).clip(least)
    found[: min(2, count)] = [most, least][:count]
    found[count + LONG_NEIGHBOUR] = most
    found.flags.writeable = False
    return found
