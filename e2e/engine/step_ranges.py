"""NVTX ranges around an engine's steps, so that a profiler's reader tells prefill from decode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from profiles.instruments.range_names import EngineRange
from profiles.instruments.ranges import Ranges

OnStep = Callable[[int, int], None]
"""Takes how many tokens a step computes, and for how many sequences."""


class StepRanges:
    """Ranges ``prefill/ARM/TRIAL`` and ``decode/ARM/TRIAL``: one a step, its payload the tokens that it computes.

    A step that computes more tokens than it has sequences is prefill, whatever else it decodes beside.

    Args:
        ranges: of the domain.
    """

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges
        self._trial: EngineRange | None = None
        self._open: AbstractContextManager[None] | None = None

    def begin(self, tokens: int, sequences: int) -> None:
        """A step begins, and with it the last one has ended; outside a trial nothing is recorded."""
        self._end()
        if self._trial and tokens:
            step = replace(self._trial, category="prefill" if tokens > sequences else "decode")
            self._open = self._ranges.range(step.message, category=step.category, payload=tokens)
            self._open.__enter__()

    @contextmanager
    def of(self, trial: EngineRange | None) -> Iterator[None]:
        """The steps in this context belong to a trial; those of None are not recorded."""
        self._trial = trial
        try:
            yield
        finally:
            self._end()
            self._trial = None

    def _end(self) -> None:
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open = None


def watch(scheduler: Any, begin: OnStep) -> None:
    """Have vLLM's scheduler announce every step that it plans, right before the step runs.

    Args:
        scheduler: ``vllm.v1.core.sched.scheduler.Scheduler``; its ``schedule`` returns a ``SchedulerOutput``.
        begin: is told.
    """
    plan = scheduler.schedule

    def announced(*arguments: Any, **named: Any) -> Any:
        """The scheduler's plan of the next step, of which `begin` is told."""
        step = plan(*arguments, **named)
        begin(step.total_num_scheduled_tokens, len(step.num_scheduled_tokens))
        return step

    scheduler.schedule = announced
