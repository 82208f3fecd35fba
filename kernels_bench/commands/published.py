"""``schema``: the JSON Schema of everything that is written for programs to read."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from kernels_bench.commands.compare_runs.gate import Judgement
from kernels_bench.commands.compare_runs.history import Entry
from kernels_bench.plan.record import Plan
from kernels_bench.records.manifest import schema
from kernels_bench.report.summary.schema import RunSummary
from profiles.run_files.published_schema import described

_WRITTEN: dict[str, Any] = {
    "summary": RunSummary,
    "comparison": Judgement,
    "history": tuple[Entry, ...],
    "plan": Plan,
}
"""What ``report --json``, ``compare --json``, ``history --json`` and ``plan`` write."""


def published_schema() -> dict[str, Any]:
    """JSON Schema of a run's files, and of the JSON that commands write."""
    written = {name: described(TypeAdapter(kind).json_schema(mode="serialization")) for name, kind in _WRITTEN.items()}
    return schema() | written
