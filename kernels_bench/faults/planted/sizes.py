"""Kernels that are chosen by M where no power of two is near."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import ROW, Fault
from kernels_bench.faults.planted.reductions import mean
from kernels_bench.faults.planted.sums import Sum, backwards, in_groups, in_parts, in_sequence, matmul, pairwise

_NEAREST: Mapping[int, Sum] = {
    1: in_sequence, 16: in_sequence, 24: pairwise, 32: in_sequence, 48: pairwise, 64: in_sequence, 96: pairwise,
    128: in_sequence,
}  # fmt: skip
"""A table of what is fastest, by M; between its entries the nearest one holds."""


def where(chosen: Callable[[int], bool], other: Sum, usual: Sum) -> Sum:
    """Another order at some M."""
    return lambda terms: (other if chosen(len(terms)) else usual)(terms)


def _from_table(terms: Tensor) -> Tensor:
    nearest = min(_NEAREST, key=lambda m: (abs(m - len(terms)), m))
    return _NEAREST[nearest](terms)


def _prime(m: int) -> bool:
    return m > 1 and all(m % divisor for divisor in range(2, m))


def _at(name: str, cause: str, chosen: Callable[[int], bool], **more: object) -> Fault:
    """An ``mm`` that adds in groups of 16 at some M."""
    return Fault(
        name=name,
        cause=cause,
        operator="mm",
        make=matmul(where(chosen, in_groups(16), in_sequence)),
        control=matmul(in_groups(16)),
        further=("batch_size",),
        **more,  # type: ignore[arg-type]
    )


def _mean(chosen: Callable[[int], bool]) -> Callable[[], Kernel]:
    return mean(where(chosen, in_parts(8), in_sequence))


FAULTS = (
    _at("m_window", "another tile at M = 41, 49 and 57", lambda m: 40 < m < 60 and m % 8 == 1),
    _at("m_is_12", "another tile at M = 12 alone", lambda m: m == 12),
    _at("m_is_20_to_22", "another tile at M = 20 to 22", lambda m: 20 <= m <= 22),
    _at("m_is_prime", "another tile where M is a prime between 32 and 62", lambda m: 32 < m < 62 and _prime(m)),
    _at("m_is_multiple_of_24", "another tile where M is a multiple of 24", lambda m: m % 24 == 0),
    _at("m_is_odd_in_waves", "another tile in odd waves of 20 rows, at their last row", lambda m: m % 40 == 39),
    Fault(
        name="tuned_table",
        cause="the entry of a tuned table whose M is nearest (fused MoE)",
        operator="mm",
        make=matmul(_from_table),
        control=matmul(pairwise),
        universe=129,
        further=("batch_size",),
    ),
    Fault(
        name="m_is_multiple_of_32",
        cause="another reduction where M is a multiple of 32",
        operator="mean",
        shape=ROW,
        make=_mean(lambda m: m % 32 == 0),
        control=mean(in_parts(8)),
    ),
    Fault(
        name="window_at_350",
        cause="another reduction for 345 to 360 rows",
        operator="mean",
        shape=ROW,
        make=_mean(lambda m: 345 <= m <= 360),
        control=mean(in_parts(8)),
        universe=401,
        further=("batch_size",),
    ),
    Fault(
        name="last_of_a_wave_of_132",
        cause="the order of addition turned around where the rows fill waves of 132 processors but for one",
        operator="mean",
        shape=ROW,
        make=mean(where(lambda m: m % 132 == 131, backwards, in_sequence)),
        control=mean(backwards),
        universe=270,
        further=("batch_size",),
    ),
)
