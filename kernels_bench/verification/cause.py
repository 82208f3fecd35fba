"""What a difference between two batches depends on: the batch, what was called before it, or chance."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from kernels_bench.operators import RowTensors
from kernels_bench.verification.bitwise import same_bits

Cause = Literal["batch", "calls", "chance", "once"]
"""``once``: the difference did not come again, however often both batches were launched."""

OFTEN, OFTEN_S = 3000, 1.0
"""Launches, and seconds, for which a difference is waited for that did not come again at once."""

Launched = Callable[[], RowTensors]
"""Launches a batch and gives the lines that are compared."""


@dataclass(frozen=True)
class Pair:
    """A batch and its reference, to be launched again.

    Attributes:
        reference: launches the one.
        company: launches the other.
    """

    reference: Launched
    company: Launched


def cause_of(pair: Pair) -> Cause:
    """Launch both again, in several orders, and see what decides on the difference."""
    _one_after_the_other(pair)  # so that what follows comes after the same calls
    (first, got), (again, got_again) = _one_after_the_other(pair), _one_after_the_other(pair)
    if not (_same(first, again) and _same(got, got_again)):
        return "chance"
    if _same(first, got):
        return "chance" if _differs_at_last(pair, first) else "once"
    after_itself = [pair.company(), pair.company()]
    if all(_same(one, got) for one in after_itself):
        return "batch"
    _, once_more = _one_after_the_other(pair)
    return "calls" if _same(*after_itself) and _same(once_more, got) else "chance"


def _one_after_the_other(pair: Pair) -> tuple[RowTensors, RowTensors]:
    return pair.reference(), pair.company()


def _differs_at_last(pair: Pair, expected: RowTensors) -> bool:
    """Whether some launch of the batch gives other bits than all others; it may be one of hundreds."""
    until = time.perf_counter() + OFTEN_S
    for _ in range(OFTEN):
        if not _same(pair.company(), expected):
            return True
        if time.perf_counter() > until:
            break
    return False


def _same(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> bool:
    return all(bool(same_bits(a, b)) for a, b in zip(left, right, strict=True))
