"""Kernels that remember: what was called before decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from itertools import count

import torch
from torch import Tensor

from kernels_bench.arms import Kernel, Unsupported
from kernels_bench.faults.base import GEMM, UNIVERSE, Fault
from kernels_bench.faults.planted.sums import (
    Sum,
    in_groups,
    in_parts,
    in_sequence,
    matmul,
    pairwise,
    product_fault,
    products,
)


def _remembering(other: Callable[[int, int], bool]) -> Callable[[], Kernel]:
    """Makes an ``mm`` that adds pairwise for M after a call of some number of rows; 0 before the first call."""

    def make() -> Kernel:
        last = 0

        def mm(a: Tensor, b: Tensor) -> Tensor:
            nonlocal last
            before, last = last, len(a)
            return (pairwise if other(len(a), before) else in_sequence)(products(a, b)).to(a.dtype)

        return mm

    return make


def _tiered(calls: int) -> Callable[[], Kernel]:
    """Makes an ``mm`` that is compiled anew after so many calls, and then adds in another order."""

    def make() -> Kernel:
        made = count(1)

        def mm(a: Tensor, b: Tensor) -> Tensor:
            return (pairwise if next(made) > calls else in_sequence)(products(a, b)).to(a.dtype)

        return mm

    return make


def _planned(bucket: Callable[[int], Hashable], plan: Callable[[int], int]) -> Callable[[], Kernel]:
    """Makes an ``mm`` with a plan by bucket of M: so many rows are added in sequence, those beyond them pairwise."""

    def make() -> Kernel:
        plans: dict[Hashable, int] = {}

        def mm(a: Tensor, b: Tensor) -> Tensor:
            rows = plans.setdefault(bucket(len(a)), plan(len(a)))
            parts = [in_sequence(products(a[:rows], b))]
            if len(a) > rows:
                parts.append(pairwise(products(a[rows:], b)))
            return torch.cat(parts).to(a.dtype)

        return mm

    return make


def _tiled(bucket: Callable[[int], Hashable]) -> Callable[[], Kernel]:
    """Makes an ``mm`` whose K tile is what suited the first M of a bucket."""

    def make() -> Kernel:
        tiles: dict[Hashable, int] = {}

        def mm(a: Tensor, b: Tensor) -> Tensor:
            tile = tiles.setdefault(bucket(len(a)), 8 if len(a) < 16 else 16)
            return in_groups(tile)(products(a, b)).to(a.dtype)

        return mm

    return make


def _packed_unless(known: Callable[[Tensor, Tensor], bool]) -> Callable[[], Kernel]:
    """Makes an ``mm`` that keeps a copy of its weights for as long as they are known to be the same."""

    def make() -> Kernel:
        kept: dict[torch.Size, Tensor] = {}

        def mm(a: Tensor, b: Tensor) -> Tensor:
            packed = kept.get(b.shape)
            if packed is None or not known(packed, b):
                packed = kept[b.shape] = b.clone()
            return in_sequence(products(a, packed)).to(a.dtype)

        return mm

    return make


def _raced(bucket: Callable[[int], Hashable]) -> Callable[[], Kernel]:
    """Makes an ``mm`` that races three orders of equal cost in the first call of a bucket, and keeps the winner."""

    def make() -> Kernel:
        winners: dict[Hashable, Sum] = {}

        def mm(a: Tensor, b: Tensor) -> Tensor:
            terms = products(a, b)
            key = bucket(len(a))
            if key not in winners:
                orders = (in_parts(3, order) for order in ((0, 1, 2), (2, 1, 0), (0, 2, 1)))
                winners[key] = min(orders, key=lambda add: _seconds(add, terms))
            return winners[key](terms).to(a.dtype)

        return mm

    return make


def _seconds(add: Sum, terms: Tensor) -> float:
    add(terms)  # or the first one always loses, and the race always has the same winner
    start = time.perf_counter()
    add(terms)
    return time.perf_counter() - start


def _packed(key: Callable[[Tensor], Hashable], fewest: int = 1) -> Callable[[], Kernel]:
    """Makes an ``mm`` that packs its weights once for every key, for batches of so many rows."""

    def make() -> Kernel:
        packs: dict[Hashable, Tensor] = {}

        def mm(a: Tensor, b: Tensor) -> Tensor:
            if len(a) < fewest:
                return in_sequence(products(a, b)).to(a.dtype)
            if key(b) not in packs:
                packs[key(b)] = b.clone()
            return in_sequence(products(a, packs[key(b)])).to(a.dtype)

        return mm

    return make


def _cached(key: Callable[[Tensor], Hashable]) -> Callable[[], Kernel]:
    """Makes an ``mm`` that keeps a result for every key of its rows."""

    def make() -> Kernel:
        known: dict[Hashable, Tensor] = {}

        def mm(a: Tensor, b: Tensor) -> Tensor:
            now = (key(a), b.data_ptr())
            if now not in known:
                known[now] = in_sequence(products(a, b)).to(a.dtype)
            return known[now].clone()

        return mm

    return make


def _in_one_buffer() -> Kernel:
    """An ``mm`` that writes every result where the last one was."""
    buffer: list[Tensor] = []

    def mm(a: Tensor, b: Tensor) -> Tensor:
        found = in_sequence(products(a, b)).to(a.dtype)
        if not buffer or len(buffer[0]) < len(a) or buffer[0].dtype is not a.dtype:
            buffer[:] = [torch.empty_like(found)]
        return buffer[0][: len(a)].copy_(found)

    return mm


def _flushing_after(seen: Callable[[Tensor], bool]) -> Callable[[], Kernel]:
    """Makes an ``mm`` for which subnormal numbers are zeros in all calls after some rows: a mode that is left on."""

    def make() -> Kernel:
        on = False

        def mm(a: Tensor, b: Tensor) -> Tensor:
            nonlocal on
            a = torch.where(a.abs() < torch.finfo(torch.float32).tiny, 0.0, a) if on else a
            on |= seen(a)
            return in_sequence(products(a, b)).to(a.dtype)

        return mm

    return make


def _after_zeros() -> Kernel:
    """An ``mm`` that goes by the largest number of the call before, and adds pairwise where that is 0."""
    nothing = False

    def mm(a: Tensor, b: Tensor) -> Tensor:
        nonlocal nothing
        before, nothing = nothing, not bool(a.any())
        return (pairwise if before else in_sequence)(products(a, b)).to(a.dtype)

    return mm


def _refusing(leaves_a_mark: bool) -> Callable[[], Kernel]:
    """Makes an ``mm`` for at most 65 rows, which refuses more once it has begun: it adds pairwise right afterwards."""

    def make() -> Kernel:
        begun = False

        def mm(a: Tensor, b: Tensor) -> Tensor:
            nonlocal begun
            before, begun = begun, len(a) > UNIVERSE
            if begun:
                raise Unsupported("there is room for 65 rows")
            return (pairwise if before and leaves_a_mark else in_sequence)(products(a, b)).to(a.dtype)

        return mm

    return make


def _corners(b: Tensor) -> Hashable:
    """Where weights lie, and what they begin and end with."""
    return b.data_ptr(), *(float(b[row, column]) for row in (0, -1) for column in (0, -1))


def _bucket(m: int) -> int:
    return (m - 1).bit_length()


def _ends(a: Tensor) -> Hashable:
    """M and what the first and the last row begin with."""
    return len(a), float(a[0, 0]), float(a[-1, 0])


def _bias_kept(key: Callable[[Tensor, Tensor], Hashable], just_one: bool = False) -> Callable[[], Kernel]:
    """Makes a linear layer that converts its bias once for every key of weight and bias, or keeps just the last."""

    def make() -> Kernel:
        kept: dict[Hashable, Tensor] = {}

        def linear_bias(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            if just_one and key(weight, bias) not in kept:
                kept.clear()
            known = kept.setdefault(key(weight, bias), bias.float().clone())
            return (in_sequence(products(x, weight.t())) + known).to(x.dtype)

        return linear_bias

    return make


def _bias_kept_from(rows: int) -> Callable[[], Kernel]:
    """Makes a linear layer that from so many rows on keeps its bias by its weight."""

    def make() -> Kernel:
        kept: dict[Hashable, Tensor] = {}

        def linear_bias(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            known = bias.float()
            if len(x) >= rows:
                known = kept.setdefault(_written(weight), known.clone())
            return (in_sequence(products(x, weight.t())) + known).to(x.dtype)

        return linear_bias

    return make


def _written(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor._version


FAULTS = (
    product_fault("first_call", "the first call of a process, while its caches are cold, adds in another order",
        _remembering(lambda _, before: before == 0)),
    product_fault("after_a_larger_batch", "a batch of more than 8 rows that comes right after a larger one",
        _remembering(lambda m, before: 8 < m < before)),
    product_fault("after_a_smaller_batch", "a batch of more than 8 rows that comes right after a smaller one",
        _remembering(lambda m, before: m > 8 and 0 < before < m)),
    product_fault("after_one_row", "a batch that comes right after a row alone",
        _remembering(lambda m, before: before == 1 < m)),
    product_fault("after_as_many_rows", "a batch that comes right after one of as many rows",
        _remembering(lambda m, before: before == m)),
    product_fault("plan_by_bucket", "a plan for the first M of a bucket, and a fallback for rows beyond it",
        _planned(_bucket, lambda m: -(-m // 8) * 8)),
    product_fault("plan_of_the_first", "a plan for the first M of a process, and a fallback for rows beyond it",
        _planned(lambda _: 0, lambda m: -(-m // 8) * 8)),
    product_fault("raced_by_m",
        "an autotuner that races three orders at every M", _raced(lambda m: m), matmul(in_parts(3))),
    product_fault("packed_weights", "weights that were packed when their address was first seen",
        _packed(lambda b: b.data_ptr()), _packed(lambda b: (b.data_ptr(), b._version))),
    product_fault("packed_unless_close", "weights that are packed anew where they are not close to earlier ones",
        _packed_unless(torch.allclose), _packed_unless(torch.equal)),
    product_fault("packed_for_many_rows",
        "weights that were packed when their address was first seen, for 16 rows and more",
        _packed(lambda b: b.data_ptr(), 16), _packed(lambda b: (b.data_ptr(), b._version), 16)),
    replace(
        product_fault("packed_for_a_prefill",
            "weights that were packed when their address was first seen, for 100 rows and more",
            _packed(lambda b: b.data_ptr(), 100), _packed(lambda b: (b.data_ptr(), b._version), 100)),
        universe=129),
    Fault("bias_of_the_old_weights", "a bias is converted anew where its weight was written", "linear_bias",
        _bias_kept(lambda weight, _: _written(weight)),
        _bias_kept(lambda weight, bias: (_written(weight), _written(bias))), shape=GEMM),
    Fault("bias_of_the_last_weights", "one bias is kept, and converted anew where the weight is another", "linear_bias",
        _bias_kept(lambda weight, _: _written(weight), just_one=True),
        _bias_kept(lambda weight, bias: (_written(weight), _written(bias)), just_one=True), shape=GEMM),
    Fault("bias_of_many_rows", "for 48 rows and more a bias is converted anew where its weight was written",
        "linear_bias", _bias_kept_from(48), _bias_kept_from(UNIVERSE + 1), shape=GEMM, further=("history",)),
    product_fault("after_rows_of_zeros", "a batch that comes right after one of nothing but zeros", _after_zeros),
    product_fault("after_a_refusal", "a batch that comes right after one of more than 65 rows, which was refused",
        _refusing(True), _refusing(False)),
    product_fault("cached_by_ends",
        "a result is kept by M and by what the first and the last row begin with", _cached(_ends)),
    product_fault("cached_by_first_row", "a result is kept by M and by what the first row begins with",
        _cached(lambda a: (len(a), float(a[0, 0])))),
    product_fault("compiled_after_30_calls", "after 30 calls a kernel is compiled anew, and adds in another order",
        _tiered(30)),
    product_fault("packed_weights_by_corners", "weights that are packed anew where their corners have changed",
        _packed(_corners)),
    product_fault("packed_weights_by_samples", "weights that are packed anew where their first column has changed",
        _packed(lambda b: tuple(b[:, 0].tolist()))),
    product_fault("one_buffer", "every result lies where the next call writes its own", _in_one_buffer),
    product_fault("flushing_after_nan", "subnormal numbers are zeros in all calls after one with NaN",
        _flushing_after(lambda a: bool(a.isnan().any()))),
    product_fault("packed_weights_by_shape", "weights that were packed when their shape was first seen",
        _packed(lambda b: b.shape)),
)  # fmt: skip

UNSEEN = (
    product_fault("tile_of_the_buckets_first", "the tile that suited the first M of a bucket of 24",
        _tiled(lambda m: m // 24), matmul(in_groups(16))),
    product_fault("twelve_after_a_larger_batch", "a batch of twelve rows that comes right after a larger one",
        _remembering(lambda m, before: m == 12 and before > m)),
    product_fault("flushing_after_many_rows", "subnormal numbers are zeros in all calls after one with 48 rows or more",
        _flushing_after(lambda a: len(a) >= 48)),
    product_fault("tile_of_the_first", "the tile that suited the first M of a process", _tiled(lambda _: 0)),
    product_fault("raced_once", "an autotuner that races three orders in the first call", _raced(lambda _: 0),
        matmul(in_parts(3))),
)  # fmt: skip
