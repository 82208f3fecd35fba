"""Bitwise comparison: nothing that differs escapes, and nothing that agrees is called different."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels_bench.verification import bitwise as comparison
from kernels_bench.verification.bitwise import bits, difference, digest, same_bits, ulp_key
from kernels_bench.verification.subject.poison import poison, unwritten

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
WIDTH = {torch.bfloat16: 16, torch.float16: 16, torch.float32: 32}
ROWS, COLUMNS = 1024, 1024

dtypes = st.sampled_from(DTYPES)
generator = torch.Generator().manual_seed(0)
MILLION = {dtype: torch.randn(ROWS, COLUMNS, generator=generator).to(dtype) for dtype in DTYPES}


def mask(place: int, width: int) -> int:
    """One bit, as a signed integer of that width."""
    return 1 << place if place < width - 1 else -(1 << place)


def flipped(values: torch.Tensor, index: int, place: int) -> torch.Tensor:
    other = values.clone()
    bits(other).view(-1)[index] ^= mask(place, WIDTH[values.dtype])
    return other


def made(pattern: int, dtype: torch.dtype) -> torch.Tensor:
    """One element with these bits, shape (1, 1)."""
    width = WIDTH[dtype]
    signed = pattern - (1 << width) if pattern >> (width - 1) else pattern
    return torch.tensor([[signed]], dtype={16: torch.int16, 32: torch.int32}[width]).view(dtype)


@settings(max_examples=60)
@given(dtypes, st.integers(0, ROWS * COLUMNS - 1), st.integers(0, 31))
def test_one_flipped_bit_in_a_million_elements_is_found(dtype: torch.dtype, index: int, place: int) -> None:
    values, place = MILLION[dtype], place % WIDTH[dtype]
    other = flipped(values, index, place)
    found = difference(values, other)
    assert not bool(same_bits(values, other))
    assert found is not None
    assert (found.row, found.index) == divmod(index, COLUMNS)
    assert (found.elements, found.rows, found.differing_rows) == (1, 1, (index // COLUMNS,))
    assert int(found.patterns[0], 16) ^ int(found.patterns[1], 16) == 1 << place
    assert found.values[0] == float(values.view(-1)[index])
    assert found.ulp == found.max_ulp or found.ulp is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_flipped_bit_changes_the_digest_of_a_million_elements(dtype: torch.dtype) -> None:
    values = MILLION[dtype]
    places = [(0, 0), (ROWS * COLUMNS - 1, WIDTH[dtype] - 1), (123_456, 3)]
    digests = {digest((values,)), *(digest((flipped(values, *place),)) for place in places)}
    assert len(digests) == 1 + len(places)


@given(dtypes, st.integers(1, 30), st.integers(1, 30), st.data())
def test_counts_are_those_of_a_plain_loop(dtype: torch.dtype, count: int, columns: int, data: st.DataObject) -> None:
    values = torch.randn(count, columns, generator=torch.Generator().manual_seed(1)).to(dtype)
    places = st.tuples(st.integers(0, count * columns - 1), st.integers(0, WIDTH[dtype] - 1))
    flips = dict(data.draw(st.lists(places, max_size=20)))
    other = values
    for index, place in flips.items():
        other = flipped(other, index, place)
    found = difference(values, other)
    if not flips:
        assert found is None
        return
    assert found is not None
    differing = sorted(flips)
    assert (found.row, found.index) == divmod(differing[0], columns)
    assert found.elements == len(flips)
    assert found.differing_rows == tuple(sorted({index // columns for index in differing}))
    assert found.rows == len(found.differing_rows)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 2, 3), (2, 3, 2, 2)])
def test_rows_of_any_rank_are_compared(shape: tuple[int, ...]) -> None:
    values = torch.randn(shape)
    other = flipped(values, values.numel() - 1, 0)
    found = difference(values, other)
    assert difference(values, values.clone()) is None
    assert found is not None
    assert (found.row, found.index) == (shape[0] - 1, values[0].numel() - 1)


def test_views_that_are_not_contiguous_are_compared_by_place_not_by_memory() -> None:
    values = torch.randn(5, 4, 3)
    view = values.transpose(0, 1)
    assert difference(view, view.contiguous()) is None
    assert difference(view, values.reshape(4, 5, 3)) is not None
    assert digest((view,)) == digest((view.contiguous(),))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_two_zeros_differ(dtype: torch.dtype) -> None:
    zero = torch.zeros(2, 3, dtype=dtype)
    found = difference(zero, -zero)
    assert torch.equal(zero, -zero)  # what a comparison by value would say
    assert not bool(same_bits(zero, -zero))
    assert digest((zero,)) != digest((-zero,))
    assert found is not None
    assert found.elements == 6
    assert found.ulp == found.max_ulp == 0
    assert found.patterns == ("0x" + "0" * (WIDTH[dtype] // 4), "0x8" + "0" * (WIDTH[dtype] // 4 - 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_equals_itself_and_differs_from_other_payloads(dtype: torch.dtype) -> None:
    nan = torch.full((2, 3), math.nan, dtype=dtype)
    other = flipped(nan, 4, 0)
    assert difference(nan, nan.clone()) is None
    assert bool(same_bits(nan, nan.clone()))
    assert other.isnan().all()
    assert digest((nan,)) != digest((other,))
    found = difference(nan, other)
    assert found is not None
    assert (found.row, found.index, found.elements) == (1, 1, 1)
    assert found.ulp is None
    assert found.max_ulp is None
    assert all(math.isnan(value) for value in found.values)


def test_a_nan_does_not_hide_the_distance_of_the_others() -> None:
    values = torch.ones(1, 3)
    other = torch.tensor([[math.nan, 1.0, 1.0 + 2.0**-20]])
    found = difference(values, other)
    assert found is not None
    assert (found.index, found.ulp, found.max_ulp) == (0, None, 8)


def all_numbers(dtype: torch.dtype) -> torch.Tensor:
    """Every 16-bit float that is a number, ascending."""
    every = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype)
    return every[~every.isnan()].double().sort().values


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ulp_distance_counts_the_numbers_between(dtype: torch.dtype) -> None:
    numbers = all_numbers(dtype).unique()
    rank = {value: place for place, value in enumerate(numbers.tolist())}
    draw = np.random.default_rng(0)
    for first, second in draw.choice(len(numbers), (300, 2)):
        pair = [numbers[int(place)].to(dtype).view(1, 1) for place in (first, second)]
        found = difference(*pair)
        expected = abs(rank[float(pair[0])] - rank[float(pair[1])])
        assert (found.ulp if found else 0) == expected
        assert (found.max_ulp if found else 0) == expected


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(1, 5))
def test_ulp_distance_agrees_with_nextafter(value: float, steps: int) -> None:
    start = np.float32(value)
    target = start
    for _ in range(steps):
        target = np.nextafter(target, np.float32(np.inf), dtype=np.float32)
    if not np.isfinite(target):
        return
    found = difference(torch.tensor([[float(start)]]), torch.tensor([[float(target)]]))
    assert found is not None
    assert found.ulp == found.max_ulp == steps


@given(st.floats(2.0**-100, 2.0**100, width=32), st.integers(-1000, 1000).filter(bool))
def test_ulp_distance_agrees_with_spacing(value: float, steps: int) -> None:
    start = np.float32(value)
    target = np.float32(start + steps * np.spacing(start))
    if np.spacing(target) != np.spacing(start):
        return
    found = difference(torch.tensor([[float(start)]]), torch.tensor([[float(target)]]))
    assert found is not None
    assert found.ulp == abs(steps)


@given(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1))
def test_ordered_integers_grow_with_the_floats(first: int, second: int) -> None:
    pair = [made(pattern, torch.float32) for pattern in (first, second)]
    values = [float(value) for value in pair]
    if any(math.isnan(value) for value in values):
        return
    places = [ulp_key(int(bits(value)), 32) for value in pair]
    assert (places[0] < places[1]) == (values[0] < values[1])
    assert (places[0] == places[1]) == (values[0] == values[1])


@given(dtypes, st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1))
def test_patterns_are_the_bits_themselves(dtype: torch.dtype, first: int, second: int) -> None:
    width = WIDTH[dtype]
    first, second = first % (1 << width), second % (1 << width)
    found = difference(made(first, dtype), made(second, dtype))
    assert (found is None) == (first == second)
    if found is not None:
        assert found.patterns == (f"0x{first:0{width // 4}x}", f"0x{second:0{width // 4}x}")


@given(dtypes, st.lists(st.integers(0, (1 << 16) - 1), min_size=1, max_size=40), st.data())
def test_digests_are_equal_if_and_only_if_the_bits_are(
    dtype: torch.dtype, patterns: list[int], data: st.DataObject
) -> None:
    values = torch.cat([made(pattern, dtype) for pattern in patterns])
    first, second = (data.draw(st.integers(0, len(patterns) - 1)) for _ in range(2))
    swapped = values.clone()
    swapped[first], swapped[second] = values[second].clone(), values[first].clone()
    assert digest((values,)) == digest((values.clone(),))
    assert (digest((values,)) == digest((swapped,))) == bool(same_bits(values, swapped))
    place = data.draw(st.integers(0, WIDTH[dtype] - 1))
    assert digest((values,)) != digest((flipped(values, first, place),))
    assert digest((values,)) != digest((torch.cat([values, torch.zeros(1, 1, dtype=dtype)]),))


@settings(max_examples=30)
@given(dtypes, st.integers(1, 200), st.integers(1, 250))
def test_digests_do_not_depend_on_chunks(dtype: torch.dtype, count: int, chunk: int) -> None:
    outputs = (MILLION[dtype].view(-1)[:count], MILLION[dtype][0])
    in_one_piece = digest(outputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "_DIGEST_CHUNK", chunk)
        assert digest(outputs) == in_one_piece


def test_digests_depend_on_the_order_of_results() -> None:
    first, second = torch.randn(8), torch.randn(8)
    assert digest((first, second)) != digest((second, first))


FORMS = {
    "a row": torch.zeros(6),
    "2 x 3": torch.zeros(2, 3),
    "3 x 2": torch.zeros(3, 2),
    "bf16": torch.zeros(6, dtype=torch.bfloat16),
    "fp16": torch.zeros(6, dtype=torch.float16),
}


@pytest.mark.parametrize("pair", list(itertools.combinations(FORMS, 2)), ids=" and ".join)
def test_digests_stand_for_shapes_and_dtypes_too(pair: tuple[str, str]) -> None:
    assert digest((FORMS[pair[0]],)) != digest((FORMS[pair[1]],))


def test_neither_half_of_the_digest_collides_on_similar_data() -> None:
    patterns = torch.arange(2000, dtype=torch.int16).view(torch.float16)
    digests = [digest((pattern,)) for pattern in patterns.split(1)]
    for half in (slice(0, 16), slice(16, 32)):
        assert len({text[half] for text in digests}) == 2000


@pytest.mark.parametrize("dtype", DTYPES)
def test_poison_is_counted_until_it_is_overwritten(dtype: torch.dtype) -> None:
    values = torch.empty(7, 9, dtype=dtype)
    poison(values)
    assert unwritten(values) == 63
    assert values.isnan().all()
    values[2:5] = 0
    assert unwritten(values) == 36
    assert unwritten(MILLION[dtype]) == 0


def test_no_nan_that_torch_computes_is_taken_for_poison() -> None:
    for dtype in DTYPES:
        nan = torch.full((4, 64), math.nan)
        computed = [nan.to(dtype), nan.to(dtype) + 1, torch.softmax(nan.to(dtype), -1), -nan.to(dtype)]
        assert [unwritten(values) for values in computed] == [0, 0, 0, 0]
