"""Digests of rows: other bits, another digest; wherever the row stands and however it lies in memory."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from e2e.locate.seen import digest
from e2e.locate.seen.digest import RawRows, digests_of, raw_rows, row_digests

DTYPES = st.sampled_from(
    [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool]
)
SEEDS = st.integers(0, 1 << 32)


def drawn(seed: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    raw = torch.randint(
        0, 256, (*shape, torch.empty(0, dtype=dtype).element_size()), dtype=torch.uint8, generator=at(seed)
    )
    if dtype == torch.bool:
        return (raw[..., 0] % 2).bool()
    return raw.view(dtype)[..., 0]


def at(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(SEEDS, DTYPES, st.integers(1, 40), st.integers(1, 5), st.data())
def test_one_changed_bit_changes_its_rows_digest_and_no_other(
    seed: int, dtype: torch.dtype, width: int, rows: int, data: st.DataObject
) -> None:
    x = drawn(seed, (rows, width), dtype)
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, width - 1))
    y = x.clone()
    if dtype == torch.bool:
        y[row, column] = ~y[row, column]
    else:
        raw = y.view(torch.uint8).view(rows, width, -1)
        raw[row, column, data.draw(st.integers(0, raw.shape[2] - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = row_digests(x) != row_digests(y)
    assert changed.tolist() == [one == row for one in range(rows)]


@settings(deadline=None)
@given(SEEDS, DTYPES, st.integers(2, 64))
def test_other_rows_have_other_digests(seed: int, dtype: torch.dtype, width: int) -> None:
    x = drawn(seed, (64, width), dtype)
    whole = {tuple(row.reshape(-1).view(torch.uint8).tolist()) for row in x}
    assert len(set(row_digests(x).tolist())) == len(whole)


@settings(deadline=None)
@given(SEEDS, DTYPES, st.integers(1, 30), st.integers(1, 6))
def test_where_a_row_stands_and_how_it_lies_does_not_matter(
    seed: int, dtype: torch.dtype, width: int, rows: int
) -> None:
    x = drawn(seed, (rows, width), dtype)
    own = row_digests(x)
    order = torch.randperm(rows, generator=at(seed))
    assert torch.equal(row_digests(x[order]), own[order])
    assert torch.equal(row_digests(x.t().contiguous().t()), own)
    wide = drawn(seed + 1, (rows, width + 3), dtype)
    wide[:, 2 : 2 + width] = x
    assert torch.equal(row_digests(wide[:, 2 : 2 + width]), own)
    assert torch.equal(row_digests(x.reshape(rows, width, 1)), own)
    assert torch.equal(row_digests(torch.cat([drawn(seed + 2, (3, width), dtype), x]))[3:], own)


@settings(deadline=None, max_examples=30)
@given(SEEDS, DTYPES, st.integers(1, 30))
def test_the_device_does_not_matter(seed: int, dtype: torch.dtype, width: int) -> None:
    x = drawn(seed, (7, width), dtype)
    keys = digest.keys_on(digest.bits_of(x).shape[1], "cpu")
    elsewhere = (digest.bits_of(x).to(torch.int64) * keys).sum(1)  # as on a device that has no NumPy
    assert torch.equal(row_digests(x), elsewhere)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.lists(st.tuples(DTYPES, st.integers(1, 9), st.sampled_from([1, 2, 700])), max_size=6))
def test_many_at_once_have_the_digests_that_each_has(seed: int, kinds: list[tuple[torch.dtype, int, int]]) -> None:
    parts = [drawn(seed + at, (rows, width), dtype) for at, (dtype, rows, width) in enumerate(kinds)]
    expected = [row_digests(one).tolist() for one in parts]
    assert [one.tolist() for one in digests_of([raw_rows(one) for one in parts])] == expected
    # As they are kept on a device, where nothing is copied to the host for it: of their own dtype, or whole numbers.
    for kept in (parts, [digest.bits_of(one) for one in parts]):
        there = [RawRows(bits, len(one), one.element_size() == 1) for bits, one in zip(kept, parts, strict=True)]
        assert [one.tolist() for one in digests_of(there)] == expected


def test_a_tensor_of_many_rows_is_digested_in_parts() -> None:
    x = drawn(1, (500, 700), torch.bfloat16)
    assert row_digests(x).tolist() == torch.cat([row_digests(one[None]) for one in x]).tolist()


def test_zeros_of_either_sign_and_not_a_number_are_bits_as_others() -> None:
    x = torch.tensor([[0.0], [-0.0], [float("nan")], [float("inf")]])
    assert len(set(row_digests(x).tolist())) == 4


def test_nothing_has_a_digest_too() -> None:
    assert row_digests(torch.zeros(3, 0)).tolist() == [0, 0, 0]
    assert row_digests(torch.zeros(0, 4)).tolist() == []


def test_keys_are_odd_and_the_first_of_many_are_those_of_few() -> None:
    few, many = digest.keys_on(100, "cpu").numpy(), digest.keys_on(5000, "cpu").numpy()
    assert np.array_equal(few, many[:100])
    assert (many & 1).all()
    assert len(set(many.tolist())) == 5000
