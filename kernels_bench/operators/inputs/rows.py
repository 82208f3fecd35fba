"""Data that can be made again anywhere: every element is a pure function of (seed, stream, row, column).

Only integer arithmetic and exact scalings are used, so that the same row has the same bits on every device
and in every process, however many rows are made.  The generator is SplitMix64 (Steele, Lea, Flood, *Fast
splittable pseudorandom number generators*, OOPSLA 2014) over a counter; four 16-bit fields are added for
a bell shape (Irwin-Hall), since logarithms and cosines differ between devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.inputs.special import EQUAL, LARGER, nan_with_payload, signs, subnormal
from kernels_bench.operators.inputs.splitmix64 import hashed, hashed_at
from kernels_bench.relations.batch import (
    ALIKE_BUT_FOR_ONE,
    BEGUN_ALIKE,
    FIRST_IN_COMMON,
    FIRST_SPECIAL,
    IN_COMMON,
    IN_TURN,
    NEARLY_ALIKE,
    SPECIAL,
    TURNED_ALIKE,
)

KINDS = ("cancelling", "normal", "wide", "small")
"""What row `i` holds is ``KINDS[i % 4]``: see `row_table`."""

HOSTILE = ("huge", "inf", "nan", "zero")
"""Neighbours that no model should meet, and that no kernel may let into another row."""

OFFSETS = 1 << 31
"""More elements than this are more than a signed integer of 32 bits counts."""

_CHUNK = 1 << 24
_ANOTHER = 1.5
_FULL = 1.1
"""What numbers of 18 bits are multiplied by in fp32, whose sums of a few hundred are exact in any order otherwise."""
_WIDE, _WIDER = 12, 20  # binades
_MASKED_BLOCK = 128
_OUTLIERS = 4
_SPARSE = 5
_QUARTER = 4
FEW_LEFT = 5
"""So many elements are left where all others are masked."""
_TOP, _BELOW_HALF_A_UNIT, _SPREAD = 4.0, 17.0, 16.0
_LEAST = 2.0**-15
"""The smallest number above zero that `_bell` gives."""
MIDDLES, _GROUP = 15, 128
"""Of `IN_COMMON` rows this one is of `_middles`, and its largest number comes again in each group of a quantiser's."""
_STEP, _STEP_OF_FEW_BITS = 41 * 2.0**-12, 7 * 2.0**-10
"""Scales whose reciprocals are rounded by so much that what is multiplied by them is no middle any more.

That holds of 41 too where the scale itself is the largest number times a reciprocal, of 448, which is rounded; of
bfloat16, whose numbers have too few bits for 41, there is none of which it does.
"""
_NEARLY = 1 + 2.0**-9
"""A length that is 1 as far as bf16 can tell, and not to the last bit of fp32."""
_LED = 4
"""Rows that begin or end with zeros do so for one of so many parts."""
_MOST_PADDING = 512
"""Equal numbers of a long row: each is rounded alike where it is added, so that an honest kernel's errors add up."""
_OWN_END = 16
"""Of rows that begin alike, the last one of so many parts is their own, or as many numbers in the middle."""
_MATRIX = 2
"""Dimensions of a matrix."""


def _bell(bits: torch.Tensor) -> torch.Tensor:
    """Four 16-bit fields added and centred: mean 0, standard deviation 1.15, at most 4 in size; exact fp32."""
    total = (bits & 0xFFFF).add_((bits >> 16) & 0xFFFF).add_((bits >> 32) & 0xFFFF).add_((bits >> 48) & 0xFFFF)
    return total.sub_(2 * 0xFFFF).to(torch.float32).mul_(2.0**-15)


def of_all_bits(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """In fp32 numbers that have all of its bits, in place of those of `_bell`; of other dtypes as they are."""
    return values.mul_(_FULL) if dtype is torch.float32 else values


def bell_shaped(seed: int, stream: str, first: int, rows: int, columns: int, device: torch.device) -> torch.Tensor:
    """Bell-shaped fp32 numbers of shape (rows, columns), the same bits on every device."""
    return _bell(hashed(seed, stream, first, rows, columns, device))


def bell_at(
    seed: int,
    stream: str,
    rows: torch.Tensor,
    columns: int,
    wide: torch.Tensor | None = None,
    wider: torch.Tensor | None = None,
) -> torch.Tensor:
    """Bell-shaped fp32 numbers for some rows, given by their numbers.

    Those marked ``wide`` span twelve binades, and those marked ``wider`` twenty: the sum of a few numbers of 16 bits is
    exact in fp32, whatever its order, where they span fewer.
    """
    bits = hashed_at(seed, stream, rows, columns)
    values = _bell(bits)
    for marked, binades in ((wide, _WIDE), (wider, _WIDER)):
        if marked is not None:
            values = torch.where(marked[:, None], values * _powers(bits, binades), values)
    return values


def _powers(bits: torch.Tensor, binades: int) -> torch.Tensor:
    # Made of their own bits (an exponent and no fraction): a device's own power function need not be exact.
    half = binades // 2
    exponents = torch.arange(127 - half, 127 + half + 1, dtype=torch.int32, device=bits.device)
    table = (exponents << 23).view(torch.float32)
    return table[(bits >> 7) % len(table)]


def _spans(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    step = max(1, _CHUNK // max(1, columns) // IN_COMMON) * IN_COMMON
    return ((start, min(rows, start + step)) for start in range(0, rows, step))


def row_table(
    seed: int, stream: str, rows: int, columns: int, dtype: torch.dtype, device: torch.device, added: bool = False
) -> torch.Tensor:
    """The universe: rows 0 … ``rows`` - 1, shape (rows, columns).

    Four kinds of rows take turns, since each lets another fault show: ``normal`` ones are bell-shaped; ``wide``
    ones span twelve binades; ``small`` ones are a thousand times smaller, so that a norm's epsilon matters;
    ``cancelling`` ones hold every value
    twice with opposite signs, so that against `paired` weights the exact sum is zero and what comes out is
    the rounding error itself, which even a 16-bit result cannot hide.

    Some of every `IN_COMMON` rows have something in common, since a kernel may have a path of its own for a batch of
    them (`FIRST_IN_COMMON`), or take one row for another (`BEGUN_ALIKE`, `NEARLY_ALIKE`). One is of `_middles`, for
    quantisers. Of rows that are to be ``added`` to others some are zeros, and some ones, which change no product.
    """
    table = torch.empty(rows, columns, dtype=dtype, device=device)
    half = columns // 2
    for start, stop in _spans(rows, columns):
        bits = hashed(seed, stream, start, stop - start, columns, device)
        values = of_all_bits(_bell(bits), dtype)
        # Every so-many-th row, as a view: a mask would have to be waited for, on a GPU for all other processes' turns.
        places = [slice((number - start) % len(KINDS), None, len(KINDS)) for number in range(len(KINDS))]
        cancelling, _, wide, small = places
        values[cancelling, half : 2 * half] = -values[cancelling, :half]
        values[cancelling, 2 * half :] = 0
        values[small] *= 2.0**-10
        values[wide] *= _powers(bits[wide], _WIDE)
        narrow, shares = values[FIRST_IN_COMMON.narrow :: IN_COMMON], slice(FIRST_IN_COMMON.shares, None, IN_COMMON)
        narrow.copy_(narrow.to(_narrower(dtype)))
        values[shares] = shares_of_one(_bell(bits[shares]))
        values[MIDDLES::IN_COMMON] = _middles(bits[MIDDLES::IN_COMMON], dtype)
        unit = slice(FIRST_IN_COMMON.unit, None, IN_COMMON)
        values[unit] = _of_unit_length(_bell(bits[unit]))
        if added:
            values[FIRST_IN_COMMON.nothing :: IN_COMMON] = 0
            values[FIRST_IN_COMMON.powers :: IN_COMMON] = 1
        table[start:stop] = values
    table[FIRST_IN_COMMON.negative :: IN_COMMON].abs_().neg_()
    _nearly_alike(table)
    begin_alike(table)
    some_are_ordered(table, 0)
    return table


def _middles(bits: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Numbers that, over the scale of their largest, lie in the middle between two of e4m3; 16 bits hold them exactly.

    There a quantiser rounds otherwise if it multiplies by the scale's reciprocal, or divides in another precision.
    """
    step = _STEP_OF_FEW_BITS if dtype is torch.bfloat16 else _STEP
    odd, power, sign = (bits & 7) * 2 + 17, (bits >> 3) & 7, 1 - ((bits >> 6) & 1) * 2
    found = (odd << power).float() * sign * (step / 16)
    found[:, ::_GROUP] = torch.finfo(torch.float8_e4m3fn).max * step
    return found


def _narrower(dtype: torch.dtype) -> torch.dtype:
    return torch.bfloat16 if dtype is torch.float32 else torch.float8_e4m3fn


def shares_of_one(values: torch.Tensor) -> torch.Tensor:
    """Each row's numbers as shares of their sum, which float64 holds exactly, in descending order."""
    size = values.abs().double()
    return (size / size.sum(1, keepdim=True).clamp_(min=_LEAST)).sort(1, descending=True).values.float()


def _of_unit_length(values: torch.Tensor) -> torch.Tensor:
    """Each row over its length but for `_NEARLY`, as kept embeddings are; its squares' sum is exact in float64."""
    wide = values.double()
    length = wide.square().sum(1, keepdim=True).clamp_(min=_LEAST**2).sqrt()
    return (wide / length * _NEARLY).float()


def _nearly_alike(table: torch.Tensor) -> None:
    """Some rows differ from others in the last bit of each number that is not zero."""
    first, second = (table[row::IN_COMMON] for row in NEARLY_ALIKE)
    second.copy_(nearly_the_same(first[: len(second)]))


def nearly_the_same(numbers: torch.Tensor) -> torch.Tensor:
    """The same but for the last bit of each that is not zero; whole numbers, and numbers of eight bits, as they are."""
    if not numbers.is_floating_point() or numbers.element_size() == 1:
        return numbers
    whole = torch.int32 if numbers.dtype is torch.float32 else torch.int16
    bits = numbers.view(whole)
    return torch.where(numbers == 0, bits, bits ^ 1).view(numbers.dtype)


def begin_alike(table: torch.Tensor) -> None:
    """Some rows begin as others do, some have others' numbers, and some have one first half, as prompts of a template.

    Every second one that begins as another does ends as it does too, so that the middle alone tells them apart. Of rows
    of one number there are none.
    """
    first, second = (table[row::IN_COMMON] for row in BEGUN_ALIKE)
    own = max(1, table.shape[1] // _OWN_END)
    for number, begin in enumerate((table.shape[1] - own, (table.shape[1] - own) // 2)):
        copies = second[number::2]
        kept = copies[:, begin : begin + own].clone()
        copies.copy_(first[number : len(second) : 2])
        copies[:, begin : begin + own] = kept
    first, second = (table[row::IN_COMMON] for row in TURNED_ALIKE)
    if table.shape[1] > 1:
        second.copy_(first[: len(second)].flip(1))
    begun, half = table[FIRST_IN_COMMON.begun :: IN_COMMON], table.shape[1] // 2
    begun[:, :half] = begun[:1, :half].clone()


def alike_but_for_one(tables: Sequence[torch.Tensor], count: int) -> None:
    """Some rows are another row's copies in all tensors but one: the samples of one prompt, one row and two adapters.

    A kernel that computes such a row once, or keeps what it computed, may know it by too few of its tensors, or by the
    beginning of one. Which one differs changes from copy to copy, the smallest first: it is left out most easily; of
    floating-point numbers it is the end that differs. Tables whose dimension 0 does not count rows, such as those of
    packed sequences, stay as they are.
    """
    if len(tables) < 2 or any(len(table) != count + FIRST_SPECIAL + len(SPECIAL) for table in tables):
        return
    smallest_first = sorted(range(len(tables)), key=lambda number: tables[number][0].numel())
    pairs = [(of + first, of + copy) for of in range(0, count, IN_TURN) for first, copy in ALIKE_BUT_FOR_ONE]
    for number, (first, copy) in enumerate(pair for pair in pairs if max(pair) < count):
        own = smallest_first[number % len(tables)]
        for at, table in enumerate(tables):
            numbers, another = table[copy].flatten().clone(), table[first].flatten()
            begun = len(numbers) - max(1, len(numbers) // _OWN_END) if table.is_floating_point() else 0
            alike = begun if at == own else len(numbers)
            numbers[:alike] = another[:alike]
            table[copy] = numbers.view(table.shape[1:])


def some_are_ordered(table: torch.Tensor, least: float) -> None:
    """Some rows ascend, some begin with the least number, and some have one second half, as prompts have one end.

    This half ends with the least number, as what is padded does. Of rows of one number there are none.
    """
    of = FIRST_IN_COMMON
    rising, led, ended = (table[first::IN_COMMON] for first in (of.rising, of.led, of.ended))
    rising.copy_(rising.sort(1).values)
    columns = table.shape[1]
    half, padding = columns // 2, min(columns // _LED, _MOST_PADDING)
    led[:, :padding] = least
    ended[:, columns - half :] = ended[:1, columns - half :].clone()
    ended[:, columns - padding :] = least


def hostile_rows(columns: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """One row of each kind in `HOSTILE`, shape (4, columns)."""
    signs = torch.ones(columns, dtype=dtype)
    signs[1::2] = -1
    values = {"huge": torch.finfo(dtype).max, "inf": torch.inf, "nan": torch.nan, "zero": 0.0}
    return torch.stack([signs * values[kind] for kind in HOSTILE]).to(device)


def special_rows(
    columns: int, dtype: torch.dtype, device: torch.device, stream: str = "special", added: bool = False
) -> torch.Tensor:
    """One row of each kind in `SPECIAL`, shape (17, columns), whatever the seed.

    ===========================  ===========================================================================
    ``subnormal``                subnormal numbers of all sizes: products with `paired` weights are too
    ``negative zero``            -0.0 everywhere
    ``signed zeros``             +0.0 and -0.0 in turn
    ``infinity`` …, ``NaN``      an ordinary row with one such element, NaN the first, with which running maxima
                                 begin; with two NaN, it would be left open which one's payload a sum has
    ``masked``                   the first half is -inf, whole blocks of 128 where there are any
    ``outlier``                  an ordinary row with a few elements a thousand times larger
    ``constant``                 all elements are equal, so that every maximum ties
    ``largest``                  the largest finite number with alternating signs
    ``sparse``                   zeros, but for every fifth element, which are positive, as after a ReLU
    ``one left``                 all but one element are -inf, as where a grammar leaves one token
    ``all masked``               every element is -inf
    ``infinity added`` …         an ordinary row; of rows that are added to it one element is infinite, or NaN
                                 (with NaN added its first half is subnormal, whose products with ordinary numbers
                                 do not vanish, as of a gate that is all but closed)
    ``masked end``               the last quarter is -inf, as the columns are that pad a vocabulary
    ``few left``                 all but five elements are -inf, as where a grammar leaves a choice: see `_few_left`
    ===========================  ===========================================================================

    Args:
        columns: of each row.
        dtype: of the rows.
        device: where they are made.
        stream: of the ordinary elements.
        added: whether these rows are to be added to such rows; then they are ordinary where the sum would not be of
            the same kind, or would have two NaN.
    """
    ordinary = bell_shaped(0, stream, 0, len(SPECIAL), columns, device)
    table = of_all_bits(ordinary, dtype).to(dtype)
    row = dict(zip(SPECIAL, table, strict=True))
    sign = signs(torch.arange(columns, device=device)).to(dtype)
    faint = subnormal(hashed(0, f"{stream} subnormal", 0, 1, columns, device)[0], dtype)
    row["subnormal"].copy_(faint)
    row["negative zero"].fill_(-0.0)
    row["signed zeros"].copy_(sign * 0.0)
    row["constant"].fill_(EQUAL)
    row["sparse"].abs_()[torch.arange(columns, device=device) % _SPARSE != 0] = 0
    if not added:
        row["infinity"][columns // 3] = torch.inf
        row["negative infinity"][2 * columns // 3] = -torch.inf
        row["NaN"][0] = nan_with_payload(dtype, device)
        row["masked"][: columns // 2 // _MASKED_BLOCK * _MASKED_BLOCK or columns // 2] = -torch.inf
        row["outlier"][:: -(-columns // _OUTLIERS)] *= LARGER
        row["largest"].copy_(sign * torch.finfo(dtype).max)
        row["one left"][torch.arange(columns, device=device) != columns // 3] = -torch.inf
        row["all masked"].fill_(-torch.inf)
        row["NaN added"][: columns // 2] = faint[: columns // 2]
        row["masked end"][columns - columns // _QUARTER :] = -torch.inf
        row["few left"].copy_(_few_left(ordinary[SPECIAL.index("few left")]))
    else:
        row["infinity added"][columns // 3] = torch.inf
        row["NaN added"][columns // 2] = nan_with_payload(dtype, device)
    return table


def _few_left(row: torch.Tensor) -> torch.Tensor:
    """A row of fp32 whose elements are masked but for a large one and a few small ones after it.

    Their exponentials are less than half a unit in the last place of the large one's, and together more: no two orders
    of their sum that begin elsewhere agree.
    """
    place = torch.arange(len(row), device=row.device)
    found = torch.where(place == 0, _TOP, _TOP - _BELOW_HALF_A_UNIT + row / _SPREAD)
    return torch.where(place % -(-len(row) // FEW_LEFT) == 0, found, -torch.inf)


def backwards(rows: torch.Tensor) -> torch.Tensor:
    """The rows from the last to the first, of any dtype: torch cannot flip numbers of eight bits on a CPU."""
    eight_bits = rows.is_floating_point() and rows.element_size() == 1
    return rows.view(torch.uint8).flip(0).view(rows.dtype) if eight_bits else rows.flip(0)


def turned_within(weights: torch.Tensor) -> torch.Tensor:
    """The rows in another order, the first and the last in their places where there are two or more between them.

    A kernel that looks at the ends of its weights, to see whether they are those that it knows, sees the same ones. Of
    several matrices, as experts and adapters are, the first and the last are turned within, so that it does so too if
    it looks at the ends of each. A single number, a scale, say, is another one.
    """
    if weights.numel() == 1:
        return (weights.double() * _ANOTHER).to(weights.dtype) if weights.is_floating_point() else weights
    if len(weights) < len(("first", "last")) + 2:
        return backwards(weights)
    found = weights.clone()
    found[1:-1] = backwards(weights[1:-1])
    if weights.dim() > _MATRIX:
        for end in (0, -1):
            found[end] = turned_within(weights[end])
    return found


@lru_cache(2)
def further_rows(columns: int, dtype: torch.dtype, device: torch.device, added: bool = False) -> torch.Tensor:
    """All rows that follow the ordinary ones: hostile ones, zeros for the long neighbour, and special ones.

    They are the same with every seed, and not to be written into.

    Args:
        columns: of each row.
        dtype: of the rows.
        device: where they are made.
        added: whether they are to be added to such rows, see `special_rows`.
    """
    hostile = hostile_rows(columns, dtype, device)
    between = hostile.new_zeros(FIRST_SPECIAL - len(hostile), columns)
    special = special_rows(columns, dtype, device, "special added" if added else "special", added)
    return torch.cat([hostile, between, special])


def paired(seed: int, stream: str, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Weights of shape (rows, columns) whose second half of columns repeats the first, scaled by 1/sqrt(columns).

    The repetition is what makes the universe's ``cancelling`` rows cancel in every column of a GEMM's result.
    """
    table = torch.empty(rows, columns, dtype=dtype, device=device)
    half = columns // 2
    scale = 2.0 ** -round(torch.tensor(float(columns)).log2().item() / 2)
    for start, stop in _spans(rows, columns):
        values = of_all_bits(bell_shaped(seed, stream, start, stop - start, columns, device).mul_(scale), dtype)
        values[:, half : 2 * half] = values[:, :half]
        table[start:stop] = values
    return table
