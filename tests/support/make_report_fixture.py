"""Made ``tests/data/h100`` from a report of an H100, its run, and what nsys itself says of it; not run by any test.

    python tests/support/make_report_fixture.py
        EXPORT.sqlite RUN UNCAPTURED_RUN PROJ_SUM.csv KERN_SUM.csv tests/data/h100

EXPORT is an SQLite export; RUN the directory of the run that was recorded; UNCAPTURED_RUN that of one without a
profiler; the two tables were printed by ``nsys stats --format csv --report nvtx_gpu_proj_sum --report
nvtx_kern_sum:base``.
"""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from profiles.trace.cut import cut

RANGES = (
    r"^kernels_bench:((warm-up/)?(torch|vllm|samebits)/mm/4096x4096,|(warm-up/)?(torch|samebits)/mean/"
    r"|torch/mm/1821x1015,|verify/torch/mean)"
)
CASES = r"^(torch|vllm|samebits)/mm/4096x4096/|^(torch|samebits)/mean/|^torch/mm/1821x1015/"


def main() -> None:
    export, run, uncaptured, projections, kernels, to = map(Path, sys.argv[1:])
    to.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        small = Path(scratch) / "report.sqlite"
        cut(export, small, RANGES)
        (to / "report.sqlite.xz").write_bytes(lzma.compress(small.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
    for table, column in ((projections, "Range"), (kernels, "NVTX Range")):
        _cut_table(table, column, to / f"{table.stem.split('.')[-1]}.csv")
    for path in (run, uncaptured):
        _cut_run(path, to / path.name)


def _cut_table(table: Path, column: str, to: Path) -> None:
    lines = table.read_text().splitlines()[1:]  # the first says what was read
    rows = [row for row in csv.DictReader(lines) if re.search(RANGES, row[column])]
    with to.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _cut_run(run: Path, to: Path) -> None:
    to.mkdir()
    manifest = json.loads((run / "run.json").read_text())
    manifest["command"] = re.sub(r" --out \S+", "", manifest["command"])
    (to / "run.json").write_text(json.dumps(manifest, indent=2) + "\n")
    with gzip.open(run / "records.jsonl.gz", "rt") as lines:
        kept = "".join(json.dumps(record) + "\n" for record in _chosen(map(json.loads, lines)))
    (to / "records.jsonl.gz").write_bytes(gzip.compress(kept.encode(), 9, mtime=0))


def _chosen(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for record in records:
        case = record.get("case")
        if case is None or re.search(CASES, _key(case)):
            yield record


def _key(case: dict[str, Any]) -> str:
    sizes = "x".join(str(case["shape"][size]) for size in ("n", "k") if case["shape"][size] is not None)
    return f"{case['arm']}/{case['operator']}/{sizes}/"


if __name__ == "__main__":
    main()
