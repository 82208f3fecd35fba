"""Collectives for tests of how ranks are timed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

SLOW_S = 0.02


def slow_on_the_last(given: torch.Tensor, result: torch.Tensor) -> None:
    """No rank waits for another, and the last one takes its time."""
    if dist.get_rank() == dist.get_world_size() - 1:
        time.sleep(SLOW_S)
    result.copy_(given)


def counted(given: torch.Tensor, result: torch.Tensor) -> None:
    """An all-reduce of how often this rank was asked: other than R times that where ranks are not in step."""
    given.add_(1)
    result.copy_(given)
    dist.all_reduce(result)


LOG: list[str] = []


@contextmanager
def _written_down() -> Iterator[None]:
    LOG.append("begins")
    yield
    LOG.append("ends")


def prepared_within(given: torch.Tensor, result: torch.Tensor) -> None:
    """Tells how often it was called before, within and after the context that it asks for."""
    place = len(LOG)
    result[min(place, len(result) - 1)] += 1


prepared_within.capturing = _written_down  # type: ignore[attr-defined]
