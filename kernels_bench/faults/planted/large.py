"""Kernels whose offsets have too few bits, or whose grids end, beyond the rows that are usually compared."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.reductions import mean
from kernels_bench.faults.planted.sums import Sum, by_rows, in_parts, in_sequence
from kernels_bench.records.cases import Shape

NARROW = Shape(label="fault", k=16)


def _wrapped(rows: int) -> Callable[[], Kernel]:
    """Makes a ``mean`` that finds a row by its number modulo so many."""
    return _reading(lambda x: x[torch.arange(len(x), device=x.device) % rows])


def _wrapped_elements(bits: int) -> Callable[[], Kernel]:
    """Makes a ``mean`` that finds an element by its number in so few bits."""

    def read(x: Tensor) -> Tensor:
        return x.flatten()[torch.arange(x.numel(), device=x.device) % (1 << bits)].view_as(x)

    return _reading(read)


def _reading(read: Callable[[Tensor], Tensor]) -> Callable[[], Kernel]:
    usual = mean(in_sequence)()
    return lambda: lambda x: usual(read(x))


def _in_window(terms: Tensor) -> Tensor:
    return (in_sequence if 80 <= len(terms) <= 95 else in_parts(4))(terms)


def _rest_by(other: Sum, rows: int) -> Callable[[], Kernel]:
    """Makes a ``mean`` whose grid has so many rows; another kernel does the rest."""

    def add(terms: Tensor) -> Tensor:
        return torch.cat([in_sequence(terms[:rows]), *([other(terms[rows:])] if len(terms) > rows else [])])

    return mean(add)


def _fault(
    name: str, cause: str, make: Callable[[], Kernel], control: Callable[[], Kernel] | None = None, universe: int = 65
) -> Fault:
    return Fault(
        name=name,
        cause=cause,
        operator="mean",
        shape=NARROW,
        make=make,
        control=control or mean(in_sequence),
        universe=universe,
        further=("large_batch",),
    )


FAULTS = (
    _fault("offset_modulo_300", "beyond 300 rows others are read", _wrapped(300)),
    _fault("offset_modulo_512", "beyond 512 rows the first ones are read", _wrapped(512)),
    _fault("offset_modulo_1000", "beyond 1000 rows the first ones are read", _wrapped(1000)),
    _fault("offset_of_16_bits", "an element's offset in 16 bits", _wrapped_elements(16)),
    _fault("row_of_15_bits", "a row's number in 15 bits", _wrapped(1 << 15)),
    _fault("many_rows", "another kernel from 200 rows on", mean(by_rows(in_sequence, in_parts(4), 200)),
        mean(in_parts(4))),
    _fault("window_beyond_the_universe", "another kernel for 80 to 95 rows, of a universe of 65",
        mean(_in_window), mean(in_parts(4))),
    _fault("persistent_beyond_100_000_rows", "another kernel for more than 100,000 rows, as a long context has at once",
        mean(by_rows(in_parts(4), in_sequence, 100_001)), mean(in_parts(4))),
    _fault("rest_of_a_grid", "rows beyond a grid of 65,535 by another kernel", _rest_by(in_parts(4), 65535)),
    _fault("offset_modulo_512_of_64", "beyond 512 rows the first ones are read, of a universe of 64", _wrapped(512),
        universe=64),
    _fault("offset_of_16_bits_of_64", "an element's offset in 16 bits, of a universe of 64", _wrapped_elements(16),
        universe=64),
)  # fmt: skip
