"""Which rank waited for which, from traces of several processes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from profiles.analysis.analyse import analyse
from profiles.instruments.range_names import RANKS, RankRange
from profiles.output.html_page import page
from profiles.output.text import in_words


def event(kind: str, name: str, pid: int, start_us: float, us: float) -> dict[str, Any]:
    return {"ph": "X", "cat": kind, "name": name, "pid": pid, "tid": pid, "ts": start_us, "dur": us}


def written(path: Path, events: Iterable[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"traceEvents": [*events]}))
    return path


def calls(rank: int, came_us: Iterable[float], announced: bool) -> Iterable[dict[str, Any]]:
    """A copy, then the collective itself, both within a range that the rank announces or not."""
    for begin, came in zip((0, 1000), came_us, strict=True):
        if announced:
            message = RankRange("all_reduce", "7.1", rank, 3).message
            yield event("user_annotation", f"{message}@{RANKS}", 100 + rank, begin, 900)
        yield event("cpu_op", "aten::copy_", 100 + rank, begin + 1, 2)
        yield event("cpu_op", "c10d::allreduce_", 100 + rank, begin + came, 800 - came)


CAME = ((10, 300), (110, 100), (30, 30))  # of each rank, in two calls


def test_who_came_last_is_waited_for_by_all_others(tmp_path: Path) -> None:
    events = [one for rank, came in enumerate(CAME) for one in calls(rank, came, announced=True)]
    analysis = analyse(written(tmp_path / "trace.json", events))
    (waits,) = analysis.waits
    assert (waits.what, waits.calls) == ("all_reduce over 3 ranks", 2)
    assert [rank.last for rank in waits.ranks] == [1, 1, 0]
    assert [rank.waited_for for rank in waits.ranks] == [
        (0, 100_000, 0), (200_000, 0, 0), (270_000, 80_000, 0)
    ]  # fmt: skip
    assert [rank.waited_for_ns for rank in waits.ranks] == [470_000, 180_000, 0]
    assert [rank.waited_ns for rank in waits.ranks] == [100_000, 200_000, 350_000]
    told = [*in_words(analysis)]
    assert "    rank 0 came last 1 times; for it waited rank 2 0.270 ms, rank 1 0.200 ms" in told
    assert told.index("    rank 2 came last 0 times") == len(told) - 1
    assert "rank 0 came last 1 times" in page(analysis)


def test_of_ranks_that_were_not_all_recorded_as_often_nothing_is_told(tmp_path: Path) -> None:
    """Which of a rank's calls is missing is not known, and all of them would be matched one off."""
    events = [one for rank, came in enumerate(CAME) for one in calls(rank, came, announced=True)]
    first_of_one = [one for one in events if one["pid"] == 100][:3]
    assert not analyse(written(tmp_path / "late.json", [one for one in events if one not in first_of_one])).waits


def test_processes_that_announce_nothing_are_matched_call_by_call_if_they_made_as_many(tmp_path: Path) -> None:
    """As the workers of an engine."""
    events = [one for rank, came in enumerate(CAME) for one in calls(rank, came, announced=False)]
    (waits,) = analyse(written(tmp_path / "all.json", events)).waits
    assert [rank.name for rank in waits.ranks] == ["process 100", "process 101", "process 102"]
    assert [rank.waited_for_ns for rank in waits.ranks] == [470_000, 180_000, 0]
    assert not analyse(written(tmp_path / "cut.json", events[:-1])).waits
    assert not analyse(written(tmp_path / "one.json", [one for one in events if one["pid"] == 100])).waits
