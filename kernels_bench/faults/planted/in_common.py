"""What all rows of a batch have in common decides on the order of addition, where the operator is a user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault, giving
from kernels_bench.faults.planted.sums import in_sequence, pairwise
from kernels_bench.operators import Operator
from kernels_bench.operators.defined import DefinedOperator
from kernels_bench.operators.definitions import floats, integers
from kernels_bench.verification.bitwise import bits

_SEVERAL, _MANY, _LARGE, _NEARLY = 4, 8, 16.0, 1e-3
_ROWS = 257
"""Of which some eight have something in common: whether one shows another order is a matter of chance."""

SUMMED = DefinedOperator.define(
    "planted_summed",
    rows={"x": ("d",)},
    shapes={"fault": {"d": 24}},
    results=[floats(dtype="fp32")],
)

TEMPERED = DefinedOperator.define(
    "planted_tempered",
    rows={"x": ("d",), "temperature": floats(low=0.5, high=2, dtype="fp32")},
    shapes={"fault": {"d": 24}},
    results=[floats(dtype="fp32")],
)

SCALED = DefinedOperator.define(
    "planted_scaled_rows",
    rows={
        "x": ("d",),
        "weight": floats("d", low=0.0, high=1.0),
        "presence": floats(low=0.0, high=2.0, dtype="fp32"),
        "mask": integers(low=-(1 << 31), high=1 << 31, dtype="int32"),
        "position": integers(high=1 << 12),
    },
    shapes={"fault": {"d": 24}},
    results=[floats(dtype="fp32")],
)

PENALISED = DefinedOperator.define(
    "planted_penalised",
    rows={
        "x": ("d",),
        "repetition": floats(low=0.5, high=2.0, dtype="fp32"),
        "frequency": floats(low=-2.0, high=2.0, dtype="fp32"),
        "zero_point": integers(low=-128, high=128, dtype="int32"),
    },
    shapes={"fault": {"d": 24}},
    results=[floats(dtype="fp32")],
)

NORMED = DefinedOperator.define(
    "planted_normed",
    rows={"x": ("heads", "d")},
    shapes={"fault": {"heads": 2, "d": 24}},
    results=[floats("heads", dtype="fp32")],
)

COUNTED = DefinedOperator.define(
    "planted_counted",
    rows={"x": ("d",), "count": floats(dtype="fp32")},
    shapes={"fault": {"d": 24}},
    results=[floats(dtype="fp32")],
    overwrites=("count",),
)


ADDED = DefinedOperator.define(
    "planted_residual",
    rows={"x": ("d",), "residual": ("d",)},
    shapes={"fault": {"d": 24}},
    results=[floats(dtype="fp32")],
)

WEIGHED = DefinedOperator.define(
    "planted_weighed",
    rows={"w": floats("d", low=0.0, high=1.0)},
    shapes={"fault": {"d": 24}},
    results=[floats("d", dtype="fp32")],
)

LOOKED_UP = DefinedOperator.define(
    "planted_bag",
    rows={"ids": integers("k", high=64)},
    shared={"table": (64, "d")},
    shapes={"fault": {"k": 16, "d": 4}},
    results=[floats("d", dtype="fp32")],
)


NAMED = DefinedOperator.define(
    "planted_named",
    rows={"ids": integers("k", low=-1, high=64)},
    shared={"table": (64, "d")},
    shapes={"fault": {"k": 16, "d": 4}},
    results=[floats("d", dtype="fp32")],
)


@cache
def _summed(where: Callable[[Tensor], bool], term: Callable[[Tensor], Tensor] = Tensor.float) -> Kernel:
    """Sums of a term of each number of a row, in pairs where some rows or more all are so."""

    def kernel(x: Tensor) -> Tensor:
        return (pairwise if len(x) >= _SEVERAL and where(x) else in_sequence)(term(x))

    return kernel


def _none_negative(x: Tensor) -> bool:
    return bool((x >= 0).all())


def _each_with_an_outlier(x: Tensor) -> bool:
    return bool((x.abs().amax(1) >= _LARGE).all())


def _of_half_the_bits(x: Tensor) -> bool:
    return bool((x == x.bfloat16().float()).all())


def _in_order(x: Tensor) -> bool:
    return bool((x[:, 1:] <= x[:, :-1]).all())


def _rising(x: Tensor) -> bool:
    return bool((x[:, 1:] >= x[:, :-1]).all())


def _none_positive(x: Tensor) -> bool:
    return bool((x <= 0).all() and (x < 0).any())


def _led_by_zeros(x: Tensor) -> bool:
    return bool((x[:, : x.shape[1] // 8] == 0).all() and (x[:, -1] != 0).all())


def _ended_by_zeros(x: Tensor) -> bool:
    return bool((x[:, -(x.shape[1] // 8) :] == 0).all() and (x[:, 0] != 0).all())


def _without_the_middle(x: Tensor) -> Tensor:
    """What a hash of a few places sees of a row: its beginning and its end."""
    third = x.shape[1] // 3
    return torch.cat([x[:, :third], x[:, -third:]], 1)


def _added(by_itself: bool) -> Kernel:
    """Sums of squares of a row and its residual, in pairs where no row of several has one yet."""

    def kernel(x: Tensor, residual: Tensor) -> Tensor:
        alone = by_itself and len(x) >= _SEVERAL and bool((residual == 0).all())
        return (pairwise if alone else in_sequence)((x + residual).float().square())

    return kernel


def _weighed(skips: bool) -> Kernel:
    """Weights over their sum, which is taken for 1 where every row's nearly is."""

    def kernel(w: Tensor) -> Tensor:
        total = in_sequence(w.float())
        done = skips and len(w) >= _SEVERAL and bool(((total - 1).abs() < _NEARLY).all())
        return w.float().clone() if done else w.float() / total[:, None]

    return kernel


def _bag(apart: Callable[[Tensor], bool]) -> Kernel:
    """Sums of looked-up rows, of the first half apart in some batches."""

    def kernel(ids: Tensor, table: Tensor) -> Tensor:
        found, half = table[ids.long()].float(), ids.shape[1] // 2
        if apart(ids):
            return in_sequence(found[:, :half]) + in_sequence(found[:, half:])
        return in_sequence(found)

    return kernel


def _of_one_half(which: int) -> Callable[[Tensor], bool]:
    """Whether some rows or more, not all the same, have one first half (0), as prompts of a template, or second (1)."""

    def alike(ids: Tensor) -> bool:
        half = ids.chunk(2, 1)[which]
        return len(ids) >= _SEVERAL and bool((half == half[0]).all()) and bool((ids != ids[0]).any())

    return alike


def _opened(skips: bool) -> Kernel:
    """Sums of gated numbers, in pairs where the gates of several rows are all open."""

    def kernel(x: Tensor, residual: Tensor) -> Tensor:
        alone = skips and len(x) >= _SEVERAL and bool((residual == 1).all())
        return (pairwise if alone else in_sequence)((x * residual).float())

    return kernel


def _biased(apart: bool) -> Kernel:
    """Sums of the rows that are named, of which -1 names none, in two halves where every list has one at its end."""

    def kernel(ids: Tensor, table: Tensor) -> Tensor:
        there = ids >= 0
        found, half = table[ids.clamp_min(0).long()].float() * there[..., None], ids.shape[1] // 2
        padded = len(ids) >= _SEVERAL and bool((~there[:, -1] & there[:, 0]).all())
        if apart and padded:
            return in_sequence(found[:, :half]) + in_sequence(found[:, half:])
        return in_sequence(found)

    return kernel


@cache
def _kept_by(key: Callable[[Tensor], Tensor]) -> Kernel:
    """Sums of rows, those of rows whose keys have the same bits computed once a call: of the first of them."""

    def kernel(x: Tensor) -> Tensor:
        keys, which = bits(key(x).contiguous()).unique(dim=0, return_inverse=True)
        places = torch.arange(len(x), device=x.device)
        first = places.new_full((len(keys),), len(x)).scatter_reduce_(0, which, places, "amin")
        return in_sequence(x.float())[first[which]]

    return kernel


def _tempered(alike: Callable[[Tensor], bool]) -> Kernel:
    """Sums over a temperature, in pairs where those of several rows are alike; copies of one row do not count."""

    def kernel(x: Tensor, temperature: Tensor) -> Tensor:
        several = len(x) >= _SEVERAL and bool((x != x[0]).any())
        add = pairwise if several and alike(temperature) else in_sequence
        return add(x.float()) / temperature

    return kernel


@cache
def _largest(begins_with_the_first: Callable[[Tensor], bool]) -> Kernel:
    """Running maxima, which keep a NaN that they begin with and no other; or begin below all numbers."""

    def kernel(x: Tensor) -> Tensor:
        first, *others = x.float().unbind(1)
        found = first.clone()
        if not begins_with_the_first(x):
            found, others = torch.full_like(first, -torch.inf), [first, *others]
        for number in others:
            found = torch.where(number > found, number, found)
        return found

    return kernel


@cache
def _scaled(alike: Callable[[Tensor, Tensor, Tensor, Tensor], bool]) -> Kernel:
    """Sums of weighted numbers, in pairs where what several rows have besides is alike."""

    def kernel(x: Tensor, weight: Tensor, presence: Tensor, mask: Tensor, position: Tensor) -> Tensor:
        several = len(x) >= _SEVERAL and bool((x != x[0]).any())
        add = pairwise if several and alike(weight, presence, mask, position) else in_sequence
        return add(x.float() * weight.float()) - presence

    return kernel


def _never(*_: Tensor) -> bool:
    return False


def _of_zeros_and_ones(weight: Tensor, *_: Tensor) -> bool:
    return bool(((weight == 0) | (weight == 1)).all()) and bool((weight != weight[:, :1]).any())


def _one_is_off(weight: Tensor, presence: Tensor, *_: Tensor) -> bool:
    return bool((presence == 0).all()) and bool((weight != 0).any())


def _all_bits(_: Tensor, __: Tensor, mask: Tensor, ___: Tensor) -> bool:
    return bool((mask == -1).all())


def _up_by_two(_: Tensor, __: Tensor, ___: Tensor, position: Tensor) -> bool:
    return bool((position.diff() == len(("one", "two"))).all())


def _powers_of_two(temperature: Tensor) -> bool:
    return bool((temperature.frexp().mantissa == 1 / 2).all())


def _of_unit_length(x: Tensor) -> bool:
    return bool(((x.float().square().sum(1) - 1).abs() < 8 * _NEARLY).all())


def _each_twice(x: Tensor) -> bool:
    return len(x) % 2 == 0 and bool((x[::2] == x[1::2]).all()) and bool((x != x[0]).any())


@cache
def _penalised(alike: Callable[[Tensor, Tensor, Tensor], bool]) -> Kernel:
    """Sums of a row with penalties, in pairs where several rows' are so."""

    def kernel(x: Tensor, repetition: Tensor, frequency: Tensor, zero_point: Tensor) -> Tensor:
        several = len(x) >= _SEVERAL and bool((x != x[0]).any())
        add = pairwise if several and alike(repetition, frequency, zero_point) else in_sequence
        return add(x.float()) / repetition - frequency - zero_point

    return kernel


def _at_their_defaults(repetition: Tensor, frequency: Tensor, _: Tensor) -> bool:
    return bool((repetition == 1).all() and (frequency == 0).all())


def _symmetric(_: Tensor, __: Tensor, zero_point: Tensor) -> bool:
    return bool((zero_point == 0).all())


def _all_but_one(temperature: Tensor) -> bool:
    """Whether eight rows or more have one temperature, but for one of them."""
    counts = temperature.unique(return_counts=True)[1]
    return len(temperature) >= _MANY and int(counts.max()) == len(temperature) - 1


def _just_two(temperature: Tensor) -> bool:
    return len(temperature) >= _MANY and len(temperature.unique()) == len(("one", "the other"))


@cache
def _normed(elsewhere: Callable[[Tensor], bool]) -> Kernel:
    """Sums of squares, in pairs where heads lie elsewhere in memory than right after one another."""

    def kernel(x: Tensor) -> Tensor:
        add = pairwise if elsewhere(x) else in_sequence
        return add(x.float().flatten(0, 1).square()).view(x.shape[:2])

    return kernel


def _counted(stray: bool) -> Kernel:
    """Adds each row to its count, in place, and one to what comes after the last one."""

    def kernel(x: Tensor, count: Tensor) -> Tensor:
        end = count.storage_offset() + count.numel()
        count.add_(in_sequence(x.float()))
        if stray and end * count.element_size() < count.untyped_storage().nbytes():
            count.as_strided((1,), (1,), end).add_(1)
        return count

    return kernel


def _nowhere(_: Tensor) -> bool:
    return False


def _fault(name: str, cause: str, operator: Operator, faulty: Kernel, honest: Kernel) -> Fault:
    (shape,) = operator.shapes
    return Fault(name, cause, operator, giving(faulty), giving(honest), shape=shape, universe=_ROWS)


def _pairs_fault(
    name: str, which: str, where: Callable[[Tensor], bool], term: Callable[[Tensor], Tensor] = Tensor.float
) -> Fault:
    """Some rows or more that all are so are added in pairs."""
    cause = f"four rows or more {which} are added in pairs"
    return _fault(name, cause, SUMMED, _summed(where, term), _summed(_nowhere, term))


FAULTS = (
    _pairs_fault("no_row_has_a_negative_number", "without a negative number", _none_negative),
    _pairs_fault("each_row_has_an_outlier", "that have an outlier each", _each_with_an_outlier),
    _pairs_fault("numbers_of_half_the_bits", "whose numbers all are some of bf16", _of_half_the_bits, Tensor.square),
    _pairs_fault("rows_in_order", "that stand in descending order", _in_order),
    _pairs_fault("rows_that_ascend", "that ascend", _rising),
    _pairs_fault("no_row_has_a_positive_number", "without a positive number", _none_positive),
    _pairs_fault("rows_that_begin_with_zeros", "that begin with zeros, as padding does,", _led_by_zeros),
    _pairs_fault("rows_that_end_with_zeros", "that end with zeros, as a padded size does,", _ended_by_zeros),
    _fault("all_but_the_middle", "of rows that differ in their middle alone the first one's sum is all others'",
        SUMMED, _kept_by(_without_the_middle), _kept_by(torch.clone)),
    _fault("gates_of_one", "four rows or more whose gates all are 1 are added in pairs",
        ADDED, _opened(True), _opened(False)),
    _fault("lists_padded_at_their_end", "four rows or more whose lists all end with -1 are added in two halves",
        NAMED, _biased(True), _biased(False)),
    _pairs_fault("rows_of_unit_length", "of length 1", _of_unit_length),
    _fault("maxima_that_begin_with_nan", "from 32 rows on running maxima begin below all numbers",
        SUMMED, _largest(lambda x: len(x) < 32), _largest(_nowhere)),
    _pairs_fault("each_row_twice", "each of which stands there twice in a row", _each_twice),
    _fault("same_numbers_in_another_order", "of rows of the same numbers the first one's sum is all others'",
        SUMMED, _kept_by(lambda x: x.sort(1).values), _kept_by(torch.clone)),
    _fault("weights_of_zeros_and_ones", "four rows or more whose weights are 0 or 1 are added in pairs",
        SCALED, _scaled(_of_zeros_and_ones), _scaled(_never)),
    _fault("one_of_two_penalties", "four rows or more are added in pairs where one parameter is off, and another not",
        SCALED, _scaled(_one_is_off), _scaled(_never)),
    _fault("masks_of_all_bits", "four rows or more whose masks have all bits are added in pairs",
        SCALED, _scaled(_all_bits), _scaled(_never)),
    _fault("positions_up_by_two", "four rows or more whose positions go up by two are added in pairs",
        SCALED, _scaled(_up_by_two), _scaled(_never)),
    _fault("powers_of_two", "four rows or more whose temperatures are powers of two are added in pairs",
        TEMPERED, _tempered(_powers_of_two), _tempered(_nowhere)),
    _fault("one_end", "four rows or more that end alike are added in two halves",
        LOOKED_UP, _bag(_of_one_half(1)), _bag(_nowhere)),
    _fault("shares_already", "where the weights of each of four rows or more add up to about 1, they stay as they are",
        WEIGHED, _weighed(True), _weighed(False)),
    _fault("no_residual_yet", "four rows or more to which nothing is added are added up in pairs",
        ADDED, _added(True), _added(False)),
    _fault("one_prompt", "four rows or more that begin alike are added in two halves",
        LOOKED_UP, _bag(_of_one_half(0)), _bag(_nowhere)),
    _fault("nearly_the_same_row", "of rows that are equal in bf16 the first one's sum is all others'",
        SUMMED, _kept_by(Tensor.bfloat16), _kept_by(torch.clone)),
    _fault("rows_that_begin_alike", "of rows that differ in their last number the first one's sum is all others'",
        SUMMED, _kept_by(lambda x: x[:, :-1]), _kept_by(torch.clone)),
    _fault("one_temperature", "four different rows or more of one temperature are added in pairs",
        TEMPERED, _tempered(lambda temperature: bool((temperature == temperature[0]).all())), _tempered(_nowhere)),
    _fault("temperature_of_one", "four different rows or more of temperature 1 are added in pairs",
        TEMPERED, _tempered(lambda temperature: bool((temperature == 1).all())), _tempered(_nowhere)),
    _fault("all_but_one_temperature", "eight rows or more of one temperature, but for one row, are added in pairs",
        TEMPERED, _tempered(_all_but_one), _tempered(_nowhere)),
    _fault("just_two_temperatures", "eight rows or more of two temperatures are added in pairs",
        TEMPERED, _tempered(_just_two), _tempered(_nowhere)),
    _fault("parameters_at_their_defaults", "four rows or more whose parameters all change nothing are added in pairs",
        PENALISED, _penalised(_at_their_defaults), _penalised(_never)),
    _fault("zero_points_of_zero", "four rows or more whose zero points are 0 are added in pairs",
        PENALISED, _penalised(_symmetric), _penalised(_never)),
    _fault("heads_apart", "rows whose heads do not follow one another in memory are added in pairs",
        NORMED, _normed(lambda x: x.stride(1) != x.shape[2]), _normed(_nowhere)),
    replace(_fault("heads_before_rows", "rows whose heads come before them in memory are added in pairs",
        NORMED, _normed(lambda x: x.stride(0) < x.stride(1)), _normed(_nowhere)), devices=("cpu",)),
    replace(_fault("numbers_at_an_odd_address",
        "rows are added in pairs whose temperatures do not begin at a multiple of 16 bytes",
        TEMPERED, _tempered(lambda temperature: temperature.stride(0) == 1 and temperature.data_ptr() % 16 != 0),
        _tempered(_nowhere)), devices=("cpu",)),
    Fault("counts_after_its_rows", "a sum in place adds one to what comes after its last row, too",
        COUNTED, lambda: _counted(True), lambda: _counted(False), kind="wrong", shape=COUNTED.shapes[0]),
)  # fmt: skip
