"""The universe of rows: the same bits wherever, whenever and however many of them are made."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels_bench.faults.planted.sums import backwards, in_parts, in_sequence, products
from kernels_bench.operators.inputs import rows
from kernels_bench.operators.inputs.rows import (
    HOSTILE,
    KINDS,
    MIDDLES,
    bell_shaped,
    hostile_rows,
    paired,
    row_table,
    special_rows,
)
from kernels_bench.operators.inputs.splitmix64 import hashed, splitmix64_mix
from kernels_bench.relations.batch import BEGUN_ALIKE, FIRST_IN_COMMON, IN_COMMON, NEARLY_ALIKE, SPECIAL, TURNED_ALIKE

CPU = torch.device("cpu")
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
MASK = (1 << 64) - 1

seeds = st.integers(0, 2**31)
dtypes = st.sampled_from(DTYPES)


def bits(values: torch.Tensor) -> torch.Tensor:
    return values.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()])


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool((bits(a) == bits(b)).all())


def split_mix(z: int) -> int:
    """SplitMix64's finaliser, as published, over Python's unbounded integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@given(st.lists(st.integers(0, MASK), min_size=1, max_size=50))
def test_mix_is_splitmix64(words: list[int]) -> None:
    signed = [word - (1 << 64) if word >> 63 else word for word in words]
    got = [value & MASK for value in splitmix64_mix(torch.tensor(signed)).tolist()]
    assert got == [split_mix(word) for word in words]


@given(seeds, st.integers(0, 2**20), st.integers(1, 40), st.integers(1, 40), st.data())
def test_any_block_of_the_hash_is_the_same_as_in_the_whole(
    seed: int, first: int, count: int, columns: int, data: st.DataObject
) -> None:
    whole = hashed(seed, "rows", first, count, columns, CPU)
    start = data.draw(st.integers(0, count - 1))
    width = data.draw(st.integers(1, columns))
    part = hashed(seed, "rows", first + start, count - start, width, CPU)
    assert torch.equal(part, whole[start:, :width])


@given(seeds, st.integers(1, 80), st.integers(1, 80), st.integers(1, 90), dtypes)
def test_rows_do_not_depend_on_how_many_are_made(
    seed: int, fewer: int, more: int, columns: int, dtype: torch.dtype
) -> None:
    few = row_table(seed, "rows", fewer, columns, dtype, CPU)
    many = row_table(seed, "rows", fewer + more, columns, dtype, CPU)
    assert same(few, many[:fewer])


@settings(max_examples=30)
@given(seeds, st.integers(1, 60), st.integers(2, 60), st.integers(1, 600), dtypes)
def test_rows_and_weights_do_not_depend_on_the_chunks_they_are_made_in(
    seed: int, count: int, columns: int, chunk: int, dtype: torch.dtype
) -> None:
    in_one_piece = [make(seed, "s", count, columns, dtype, CPU) for make in (row_table, paired)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "_CHUNK", chunk)
        in_chunks = [make(seed, "s", count, columns, dtype, CPU) for make in (row_table, paired)]
    assert all(same(a, b) for a, b in zip(in_one_piece, in_chunks, strict=True))


def test_rows_beyond_the_real_chunk_size_agree_with_rows_made_apart() -> None:
    columns = 1 << 20
    step = rows._CHUNK // columns
    table = row_table(3, "rows", step + 5, columns, torch.bfloat16, CPU)
    alone = bell_shaped(3, "rows", step + 1, 1, columns, CPU)[0].to(torch.bfloat16)
    assert KINDS[(step + 1) % len(KINDS)] == "normal"
    assert same(table[step + 1], alone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_are_scaled_integers_which_every_device_rounds_alike(dtype: torch.dtype) -> None:
    table = row_table(7, "rows", 8, 16, dtype, CPU)
    integers = hashed(7, "rows", 0, 8, 16, CPU)
    fields = torch.stack([(integers >> at) & 0xFFFF for at in (0, 16, 32, 48)]).sum(0) - 2 * 0xFFFF
    normal = slice(KINDS.index("normal"), None, len(KINDS))
    exact = fields[normal].double() * 2.0**-15
    # Of numbers of 24 bits a product with another of as many, and so fp64 has it exactly: one rounding is left.
    wanted = exact * float(np.float32(1.1)) if dtype is torch.float32 else exact
    own = slice(0, 12)  # a quarter of what follows is another row's padding
    assert same(table[normal, own], wanted[:, own].to(dtype))
    assert table.abs().max() <= 4 * 64 * 1.1


def test_the_order_of_a_sum_shows_in_every_kind_of_row_in_fp32() -> None:
    """Numbers of 18 bits, of which a few hundred have an exact sum in fp32, would show it in wide rows alone."""
    table = row_table(0, "rows", 64 * len(KINDS), 512, torch.float32, CPU)
    forth, back = (in_sequence(terms) for terms in (table, table.flip(1)))
    differ = (forth != back).reshape(-1, len(KINDS)).sum(0).tolist()
    assert dict(zip(KINDS, differ, strict=True)).keys() == {*KINDS}
    assert min(differ) > 48, differ


@pytest.mark.parametrize("shift", [1, 2, -1])
def test_seeds_are_not_shifts_of_each_other(shift: int) -> None:
    first, second = (hashed(seed, "rows", 8, 32, 8, CPU) for seed in (5, 5 + shift))
    shared = set(first.flatten().tolist()) & set(second.flatten().tolist())
    assert not shared


def test_seeds_and_streams_give_other_rows() -> None:
    keys = itertools.product((0, 1, 2), ("rows", "residual"))
    made = [row_table(seed, stream, 16, 64, torch.float32, CPU) for seed, stream in keys]
    for a, b in itertools.combinations(made, 2):
        assert float((a == b)[a != 0].float().mean()) < 0.01


def test_no_two_rows_of_a_universe_are_alike() -> None:
    table = row_table(0, "rows", 4096, 64, torch.bfloat16, CPU)
    assert len(bits(table).unique(dim=0)) == 4096


def test_normal_rows_are_bell_shaped() -> None:
    values = bell_shaped(0, "rows", 0, 512, 512, CPU).double()
    assert abs(float(values.mean())) < 0.01
    assert abs(float(values.std()) - (4 / 3) ** 0.5) < 0.01  # four uniforms on [-1, 1]
    assert float(values.abs().max()) <= 4
    within = float((values.abs() < 1.155).double().mean())
    assert 0.64 < within < 0.70


def test_wide_rows_span_twelve_binades() -> None:
    table = row_table(0, "rows", 64, 512, torch.float32, CPU)
    wide = table[KINDS.index("wide") :: len(KINDS)].abs()
    normal = table[KINDS.index("normal") :: len(KINDS)].abs()
    assert float(wide.max()) > 60
    assert float((wide < 2.0**-5).float().mean()) > 3 * float((normal < 2.0**-5).float().mean())


@given(seeds, st.integers(1, 200), st.integers(1, 24), dtypes)
def test_cancelling_rows_sum_to_exactly_zero_against_paired_weights(
    seed: int, half: int, count: int, dtype: torch.dtype
) -> None:
    table = row_table(seed, "rows", count, 2 * half, dtype, CPU)[KINDS.index("cancelling") :: len(KINDS)]
    assert cancel(table, paired(seed, "weight", 16, 2 * half, dtype, CPU))
    assert table.any()


def cancel(table: torch.Tensor, weights: torch.Tensor) -> bool:
    """Whether each product, which fp64 has exactly, is there with the other sign too."""
    half = table.shape[1] // 2
    terms = table.double()[:, :, None] * weights.double().t()[None]
    return torch.equal(terms[:, :half], -terms[:, half : 2 * half]) and not terms[:, 2 * half :].any()


@pytest.mark.parametrize("columns", [3, 131, 513])
def test_cancelling_rows_of_odd_length_cancel_too(columns: int) -> None:
    table = row_table(0, "rows", 8, columns, torch.float32, CPU)[KINDS.index("cancelling") :: len(KINDS)]
    assert cancel(table, paired(0, "weight", 16, columns, torch.float32, CPU))


def test_cancelling_rows_show_a_changed_order_even_in_bf16() -> None:
    universe = row_table(0, "rows", 256, 512, torch.bfloat16, CPU)
    table = universe[KINDS.index("cancelling") :: len(KINDS)].float()
    weights = paired(0, "weight", 64, 512, torch.bfloat16, CPU).float().t()
    one, other = (add(products(table, weights)).bfloat16() for add in (backwards, in_parts(2)))
    assert float((bits(one) != bits(other)).float().mean()) > 0.3


def test_weights_are_about_one_over_the_root_of_their_length() -> None:
    for columns in (64, 500, 4096):
        spread = float(paired(0, "weight", 32, columns, torch.float32, CPU).double().std())
        assert 0.7 < spread * columns**0.5 / 1.155 / 1.1 < 1.42


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 2, 7, 64])
def test_hostile_rows_are_as_hostile_as_they_say(dtype: torch.dtype, columns: int) -> None:
    table = hostile_rows(columns, dtype, CPU)
    assert table.dtype is dtype
    assert table.shape == (len(HOSTILE), columns)
    by_kind = dict(zip(HOSTILE, table, strict=True))
    assert (by_kind["huge"].abs() == torch.finfo(dtype).max).all()
    assert by_kind["inf"].isinf().all()
    assert by_kind["nan"].isnan().all()
    assert not by_kind["zero"].any()
    for kind in ("huge", "inf", "zero"):  # signs alternate: sums meet inf - inf, and both zeros
        signs = by_kind[kind].signbit()
        assert not signs[0::2].any()
        assert signs[1::2].all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_have_the_same_bits_on_a_gpu(dtype: torch.dtype) -> None:
    gpu = torch.device("cuda")
    for make in (row_table, paired):
        assert same(make(11, "s", 67, 515, dtype, CPU), make(11, "s", 67, 515, dtype, gpu).cpu())


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 2, 7, 300])
def test_special_rows_are_as_special_as_they_say(dtype: torch.dtype, columns: int, added: bool) -> None:
    table = special_rows(columns, dtype, CPU, added=added)
    assert table.dtype is dtype
    row = dict(zip(SPECIAL, table, strict=True))
    small = row["subnormal"].float().abs()
    assert (small > 0).all()
    assert (small < torch.finfo(dtype).tiny).all()
    assert ((row["negative zero"] == 0) & row["negative zero"].signbit()).all()
    assert (row["signed zeros"] == 0).all()
    assert row["signed zeros"].signbit().tolist() == [bool(i % 2) for i in range(columns)]
    assert len(row["constant"].unique()) == 1
    if added:
        assert all(row[kind].isfinite().all() for kind in SPECIAL if not kind.endswith(" added"))
        assert (row["infinity added"].isinf().sum(), row["NaN added"].isnan().sum()) == (1, 1)
        assert int((~table.isfinite()).sum()) == 2  # each beside a row that has none
        return
    assert row["infinity added"].isfinite().all()
    assert row["NaN added"].isfinite().all()
    half = columns // 2
    assert (row["NaN added"][:half] == row["subnormal"][:half]).all()
    assert (row["NaN added"][half:].abs() >= torch.finfo(dtype).tiny).all()
    for kind, value in (("infinity", torch.inf), ("negative infinity", -torch.inf)):
        assert int((row[kind] == value).sum()) == 1
        assert int(row[kind].isfinite().sum()) == columns - 1
    nan = row["NaN"][row["NaN"].isnan()]
    assert len(nan) == 1
    assert bits(nan) != bits(torch.tensor([torch.nan], dtype=dtype))
    assert int(row["NaN"].isfinite().sum()) == columns - 1
    masked = 128 if columns >= 256 else columns // 2
    assert (row["masked"] == -torch.inf).tolist() == [i < masked for i in range(columns)]
    ended = columns - columns // 4
    assert (row["masked end"] == -torch.inf).tolist() == [i >= ended for i in range(columns)]
    assert min(2, columns) <= int(row["few left"].isfinite().sum()) <= 5
    assert int((row["few left"] == -torch.inf).sum()) == columns - int(row["few left"].isfinite().sum())
    assert row["outlier"].isfinite().all()
    assert (row["largest"].abs() == torch.finfo(dtype).max).all()
    assert row["largest"].signbit().tolist() == [bool(i % 2) for i in range(columns)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormal_numbers_are_of_every_size(dtype: torch.dtype) -> None:
    size = special_rows(4096, dtype, CPU)[0].double().abs()
    exponents = {int(e) for e in size.log2().floor()}
    tiny = torch.finfo(dtype)
    assert exponents == set(range(round(np.log2(tiny.smallest_normal * tiny.eps)), round(np.log2(tiny.tiny))))


def test_results_of_subnormal_rows_are_subnormal() -> None:
    for dtype in DTYPES:
        row = special_rows(512, dtype, CPU)[0].double()
        results = (paired(0, "weight", 64, 512, dtype, CPU).double() @ row).abs()
        tiny = torch.finfo(dtype).tiny
        assert ((results > 0) & (results < tiny)).float().mean() > 0.5


def test_one_row_is_larger_in_some_places_only() -> None:
    row = special_rows(300, torch.float32, CPU)[SPECIAL.index("outlier")].abs()
    assert 1 <= int((row > 8).sum()) <= 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_rows_have_the_same_bits_on_a_gpu(dtype: torch.dtype) -> None:
    assert same(special_rows(515, dtype, CPU), special_rows(515, dtype, torch.device("cuda")).cpu())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", DTYPES)
def test_hostile_rows_have_the_same_bits_on_a_gpu(dtype: torch.dtype) -> None:
    assert same(hostile_rows(33, dtype, CPU), hostile_rows(33, dtype, torch.device("cuda")).cpu())


@given(seeds, dtypes, st.integers(2, 70), st.booleans())
def test_of_every_32_rows_some_have_something_in_common(
    seed: int, dtype: torch.dtype, columns: int, added: bool
) -> None:
    table = row_table(seed, "rows", 97, columns, dtype, CPU, added)
    of = FIRST_IN_COMMON
    narrow, shares, begun, nothing = (table[one::IN_COMMON] for one in (of.narrow, of.shares, of.begun, of.nothing))
    rising, negative, led, ended = (table[one::IN_COMMON] for one in (of.rising, of.negative, of.led, of.ended))
    narrower = torch.bfloat16 if dtype is torch.float32 else torch.float8_e4m3fn
    assert same(narrow.to(narrower).to(dtype), narrow)
    assert bool((shares[:, 1:] <= shares[:, :-1]).all())
    assert bool(((shares.double().sum(1) - 1).abs() < 2e-2).all())
    assert same(begun[:, : columns // 2], begun[:1, : columns // 2].expand(len(begun), -1))
    assert bool((nothing == 0).all()) == added
    assert bool((rising[:, 1:] >= rising[:, :-1]).all())
    assert bool((negative <= 0).all())
    assert bool((led[:, : columns // 4] == 0).all())
    half = columns // 2
    assert same(ended[:, columns - half :], ended[:1, columns - half :].expand(len(ended), -1))
    length = table[of.unit :: IN_COMMON].double().square().sum(1)
    assert bool(((length - 1).abs() < 1.5e-2).all())  # each number is rounded to 8 bits, the worst way in all of few


@given(seeds, dtypes, st.integers(2, 70))
def test_some_rows_begin_as_others_or_nearly_are_them(seed: int, dtype: torch.dtype, columns: int) -> None:
    table = row_table(seed, "rows", 97, columns, dtype, CPU)
    first, second = (table[row::IN_COMMON] for row in BEGUN_ALIKE)
    own = max(1, columns // 16)
    for number, begin in enumerate((columns - own, (columns - own) // 2)):
        for side in (slice(0, begin), slice(begin + own, None)):
            assert same(first[number : len(second) : 2, side], second[number::2, side])
    assert not same(first[: len(second)], second)
    first, second = (table[row::IN_COMMON] for row in NEARLY_ALIKE)
    apart = (bits(first[: len(second)]) ^ bits(second))[first[: len(second)] != 0]
    assert bool((apart == 1).all())
    first, second = (table[row::IN_COMMON] for row in TURNED_ALIKE)
    assert same(first[: len(second)].flip(1), second)


@given(seeds, dtypes, st.integers(128, 700))
def test_a_quantisers_rounding_shows_in_some_rows(seed: int, dtype: torch.dtype, columns: int) -> None:
    """In the middle between two numbers of e4m3 a quotient is a tie, and a product with a reciprocal often is none."""
    row = row_table(seed, "x", 2 * IN_COMMON, columns, dtype, CPU)[MIDDLES::IN_COMMON].float()
    scale = row.abs().amax(1, keepdim=True) / 448
    quotient = row / scale
    steps = (quotient.abs() * 16).int()
    odd = steps // (steps & -steps)
    tops = torch.arange(columns) % 128 == 0
    assert bool((quotient.double() * scale == row).all())
    assert bool(((odd > 16) & (odd < 32))[:, ~tops].all())  # five bits, where e4m3 has four
    assert bool((quotient[:, tops] == 448).all())
    assert 0.05 < rounded_otherwise(row, scale) < 0.5
    if dtype is not torch.bfloat16:  # which has too few bits for it
        # As torch divides by a number on a GPU.
        by_reciprocal = row.abs().amax(1, keepdim=True) * (torch.tensor(1.0) / 448)
        assert 0.05 < rounded_otherwise(row, by_reciprocal) < 0.5


def rounded_otherwise(row: torch.Tensor, scale: torch.Tensor) -> float:
    """The share of e4m3 numbers that are others if a row is multiplied by the scale's reciprocal."""
    divided, multiplied = (one.to(torch.float8_e4m3fn).float() for one in (row / scale, row * (1 / scale)))
    return float((divided != multiplied).float().mean())
