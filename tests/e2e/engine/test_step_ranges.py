"""Ranges around an engine's steps: which phase each is, and that every one ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from e2e.engine.step_ranges import StepRanges, watch
from profiles.instruments.range_names import EngineRange
from profiles.instruments.ranges import Ranges


@dataclass
class Log:
    """The domain of an nvtx that writes down what it is told."""

    said: list[tuple[str, Any]]

    def get_event_attributes(self, *, message: str, category: str | None, payload: int | None) -> tuple[Any, ...]:
        return message, category, payload

    def push_range(self, attributes: Any) -> None:
        self.said.append(("enter", attributes))

    def pop_range(self) -> None:
        self.said.append(("leave", None))


@dataclass(frozen=True)
class Step:
    """The part of vLLM's ``SchedulerOutput`` that is read."""

    num_scheduled_tokens: dict[str, int]

    @property
    def total_num_scheduled_tokens(self) -> int:
        return sum(self.num_scheduled_tokens.values())


@dataclass
class Scheduler:
    """Plans the steps that it is given."""

    steps: list[Step]

    def schedule(self, throttled: bool = False) -> Step:
        return self.steps.pop(0)


TRIAL = EngineRange("trial", "baseline", 0)


def recorded(steps: Sequence[dict[str, int]], trial: EngineRange | None = TRIAL) -> list[tuple[str, Any]]:
    log = Log([])
    ranges = Ranges("e2e")
    ranges._domain = log
    made = StepRanges(ranges)
    scheduler = Scheduler([Step(step) for step in steps])
    watch(scheduler, made.begin)
    with made.of(trial):
        for step in steps:
            assert scheduler.schedule(throttled=False) == Step(step)
    return log.said


def test_a_step_with_more_tokens_than_sequences_is_prefill() -> None:
    said = recorded([{"a": 9, "b": 5}, {"a": 1, "b": 1}, {"a": 1, "c": 7}])
    assert [attributes for what, attributes in said if what == "enter"] == [
        ("prefill/baseline/0", "prefill", 14),
        ("decode/baseline/0", "decode", 2),
        ("prefill/baseline/0", "prefill", 8),
    ]


def test_a_step_ends_where_the_next_begins_and_the_last_with_its_trial() -> None:
    said = recorded([{"a": 9}, {"a": 1}])
    assert [what for what, _ in said] == ["enter", "leave", "enter", "leave"]


def test_a_step_without_tokens_and_steps_outside_a_trial_have_no_range() -> None:
    assert recorded([{}]) == []
    assert recorded([{"a": 3}], trial=None) == []
