"""What a kind of batch is, and what its makers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kernels_bench.relations.batch import Batch, Ids, Serving
from kernels_bench.relations.spec import BatchSpec


@dataclass(frozen=True)
class BatchKind:
    """One way of choosing rows.

    Attributes:
        arguments: what stands after M in its specs.
        make: the batch of a spec, in a universe of so many rows; raises ValueError for what cannot be.
        where: what tells such batches from the first M rows in a list of places; empty where nothing need be said.
        told: whether the first argument is a length that the list tells.
        place: the same of one batch, in a sentence about it; the spec itself where it is empty.
        beyond: whether M may exceed the universe.
    """

    arguments: tuple[str, ...]
    make: Callable[[BatchSpec, int], Batch]
    where: str
    told: bool = False
    place: str = ""
    beyond: bool = False


class ImpossibleError(ValueError):
    """Why there is no such batch, as the end of a sentence about its spec."""


def all_of(name: BatchSpec, rows: Ids, serving: Serving = Serving()) -> Batch:  # noqa: B008 - immutable
    """A batch of some rows, each of which is compared."""
    return Batch(name, rows, np.arange(len(rows), dtype=np.int64), serving)


def reordered(order: Callable[[Ids, BatchSpec, int], Ids]) -> Callable[[BatchSpec, int], Batch]:
    """All rows are compared, in the order that a function of 0 … M-1, the spec and the universe gives."""

    def make(name: BatchSpec, universe: int) -> Batch:
        return all_of(name, order(np.arange(name.size, dtype=np.int64), name, universe))

    return make


def served(serving: Callable[..., Serving]) -> Callable[[BatchSpec, int], Batch]:
    """Rows 0 … M-1, served as a function of the spec's arguments says."""

    def make(name: BatchSpec, _: int) -> Batch:
        if any(argument < 1 for argument in name.arguments):
            raise ImpossibleError("has an argument below 1")
        return all_of(name, np.arange(name.size, dtype=np.int64), serving(*name.arguments))

    return make


def shuffled(size: int, seed: int) -> Ids:
    """0 … size - 1 in a random order, the same for the same seed."""
    return np.random.default_rng([seed, size]).permutation(size).astype(np.int64)
