"""Numbers of eight bits: every pattern is told from every other, what is rare is made, and nothing is left unseen."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from kernels_bench import Operator, check
from kernels_bench.operators.definitions import floats
from kernels_bench.operators.inputs.described import Making, described_rows, described_shared
from kernels_bench.operators.inputs.rows import HOSTILE, KINDS, MIDDLES, backwards
from kernels_bench.relations.batch import BEGUN_ALIKE, FIRST_IN_COMMON, FIRST_SPECIAL, IN_COMMON, SPECIAL
from kernels_bench.verification.bitwise import bits, difference, digest, same_bits, with_one_nan
from kernels_bench.verification.subject.poison import poison, unwritten

CPU = torch.device("cpu")
FORMATS = {"fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
EVERY = torch.arange(256, dtype=torch.int64).to(torch.uint8)
both = pytest.mark.parametrize("dtype", FORMATS.values(), ids=FORMATS)


def special(name: str, kind: str) -> torch.Tensor:
    table = described_rows(floats(300, dtype=name), "x", 8, Making({}, torch.bfloat16, 0, CPU), added=False)
    assert table.dtype is FORMATS[name]
    where = HOSTILE.index(kind) if kind in HOSTILE else FIRST_SPECIAL + SPECIAL.index(kind)
    return table[8 + where]


@both
def test_two_patterns_are_the_same_only_where_they_are_one(dtype: torch.dtype) -> None:
    assert bool(same_bits(EVERY.view(dtype), EVERY.view(dtype)))
    others = (EVERY, EVERY.roll(1), EVERY.flip(0), EVERY ^ 0x80, torch.full_like(EVERY, 0x7F), torch.zeros_like(EVERY))
    every, counterparts = EVERY.view(dtype).repeat(len(others)), torch.cat(others).view(dtype)
    for one, other in zip(every.split(1), counterparts.split(1), strict=True):
        assert bool(same_bits(one, other)) == (int(bits(one)) == int(bits(other)))
        found = difference(one[None], other[None])
        assert (found is None) == bool(same_bits(one, other))
        if found is not None:
            assert [int(pattern, 16) for pattern in found.patterns] == [int(x.view(torch.uint8)) for x in (one, other)]
            assert (found.ulp is None) == bool(one.isnan() or other.isnan())


@both
def test_neighbours_are_one_unit_apart_and_zeros_none(dtype: torch.dtype) -> None:
    numbers = EVERY.view(dtype)
    order = numbers[~numbers.isnan()].double().argsort(stable=True)
    ascending = numbers[~numbers.isnan()][order]
    for one, other in pairwise(ascending):
        found = difference(one.reshape(1, 1), other.reshape(1, 1))
        assert found is not None
        assert found.ulp == found.max_ulp == (0 if float(one) == float(other) else 1)


@both
def test_digests_of_any_two_patterns_differ_and_all_nan_can_be_made_one(dtype: torch.dtype) -> None:
    assert len({digest((one.view(dtype),)) for one in EVERY.split(1)}) == 256
    numbers = EVERY.view(dtype)
    united = with_one_nan(numbers)
    assert len(bits(united)[numbers.isnan()].unique()) == 1
    assert united.isnan().equal(numbers.isnan())
    assert bits(united)[~numbers.isnan()].equal(bits(numbers)[~numbers.isnan()])


@both
def test_what_was_not_written_is_nan_which_is_near_to_nothing(dtype: torch.dtype) -> None:
    values = EVERY.view(dtype).clone()
    poison(values)
    assert bool(values.isnan().all())
    assert int(unwritten(EVERY.view(dtype))) == 0  # whatever a kernel returns


@pytest.mark.parametrize("name", FORMATS)
def test_rare_rows_are_rare_in_eight_bits_too(name: str) -> None:
    dtype, most = FORMATS[name], torch.finfo(FORMATS[name]).max
    faint = special(name, "subnormal").double()
    assert bool((faint.abs() < torch.finfo(dtype).smallest_normal).all())
    assert bool((faint != 0).all())
    assert len(faint.unique()) == 2 * (2 ** {"fp8_e4m3": 3, "fp8_e5m2": 2}[name] - 1)
    assert bool((special(name, "negative zero").view(torch.uint8) == 0x80).all())
    assert set(special(name, "signed zeros").view(torch.uint8).tolist()) == {0, 0x80}
    assert int(special(name, "NaN").isnan().sum()) == 1
    assert bool(special(name, "nan").isnan().all())
    assert bool((special(name, "huge").double().abs() == most).all())
    assert bool((special(name, "largest").double().abs() == most).all())
    # Of the two formats one has no infinity.
    largest = torch.inf if name == "fp8_e5m2" else most
    assert bool((special(name, "inf").double().abs() == largest).all())
    assert float(special(name, "infinity").double().max()) == largest
    assert float(special(name, "negative infinity").double().min()) == -largest


@pytest.mark.parametrize("name", FORMATS)
def test_few_elements_of_ordinary_rows_and_weights_are_zero(name: str) -> None:
    making = Making({}, torch.bfloat16, 0, CPU)
    table = described_rows(floats(512, dtype=name), "x", 64, making, added=False)[:64].double()
    for kind in ("normal", "wide", "small"):
        assert float((table[KINDS.index(kind) :: len(KINDS)] == 0).double().mean()) < 0.1
    others = {*BEGUN_ALIKE, *FIRST_IN_COMMON, MIDDLES}
    small = [row for row in range(KINDS.index("small"), 64, len(KINDS)) if row % IN_COMMON not in others]
    assert float(table[small].abs().amax()) < 0.5
    weight = described_shared(floats(64, 4096, dtype=name), "w", making).double()
    assert float((weight == 0).double().mean()) < 0.01
    assert weight[:, :2048].equal(weight[:, 2048:])


@both
def test_rows_can_be_turned_round(dtype: torch.dtype) -> None:
    rows = EVERY.view(dtype).reshape(64, 4)
    assert bits(backwards(rows)).equal(bits(rows).flip(0))


def times_scale(faulty: Callable[[int], bool]) -> Callable[..., torch.Tensor]:
    def kernel(x: torch.Tensor, scale: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        wide = x.float() * scale * weight.float()
        return (wide * (1.1 if faulty(len(x)) else 1.0)).clamp(-448, 448).to(torch.float8_e4m3fn)

    return kernel


SCALED = Operator.define(
    "eight_bits_scaled",
    rows={"x": floats("d", dtype="fp8_e4m3"), "scale": floats(1, low=0.5, high=2.0, dtype="fp32")},
    shared={"weight": floats("d", dtype="fp8_e4m3")},
    shapes={"odd": {"d": 37}},
    results=floats("d", dtype="fp8_e4m3"),
    reference=lambda x, scale, weight: (x * scale * weight).clamp(-448, 448),
    dtypes=("bf16",),
)


def test_a_kernel_over_eight_bits_is_examined_in_every_relation_and_judged_by_its_own_dtype() -> None:
    report = check(times_scale(lambda m: False), SCALED, device="cpu", budget_s=0.5, claims=True)
    assert report.held, report.summary()
    (found,) = report.verifications
    assert {one.relation for one in found.relations if one.status != "held"} <= {"graph"}
    assert found.accuracy is not None
    assert 0.3 < found.accuracy.worst <= 1


def test_a_kernel_over_eight_bits_that_depends_on_the_batch_is_found() -> None:
    report = check(times_scale(lambda m: m >= 16), SCALED, device="cpu", budget_s=0.5)
    assert {one.verdict for one in report.verifications} == {"wrong"} or not report.held
    assert report.counterexamples


def test_a_result_of_eight_bits_that_is_not_written_is_wrong() -> None:
    def kernel(x: torch.Tensor, scale: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x)
        out[:, :-1] = times_scale(lambda m: False)(x, scale, weight)[:, :-1]
        return out

    report = check(kernel, SCALED, device="cpu", budget_s=0.5)
    assert "nan where float64 gives" in report.summary()


def test_patterns_are_those_of_the_standard() -> None:
    assert torch.tensor([-0.0, 448.0, np.nan]).to(torch.float8_e4m3fn).view(torch.uint8).tolist() == [128, 126, 127]
