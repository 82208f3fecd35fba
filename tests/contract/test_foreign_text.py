"""Text of records steers no terminal, wherever it stands and whichever command shows it."""

from __future__ import annotations

import csv
import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from kernels_bench.records.manifest import FORMAT, MANIFEST, RECORDS
from profiles.analysis.analyse import analyse
from profiles.output.csv_table import write_csv
from profiles.run_files.numbered_lines import numbered
from support.hostile import steers
from support.processes import kernels_bench
from support.profiler_reports import Launch, Span, write_report
from support.run_directories import EVERY_KIND
from support.stored_records import manifest

STEERING = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e"


def steering(value: Any, key: str = "") -> Any:
    """A record in which every text that may be any has what steers a terminal in it."""
    if isinstance(value, dict):
        return {name: steering(part, name) for name, part in value.items()}
    if isinstance(value, list):
        return [steering(part, key) for part in value]
    free = {"arm", "name", "reason", "wrong", "provenance", "label", "command", "operator", "relation", "other_bits"}
    return STEERING + value if isinstance(value, str) and key in free | {"summary", "warnings", "plugin"} else value


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / MANIFEST).write_text(json.dumps(steering(json.loads(manifest().model_dump_json()))))
    records = [json.dumps(steering(json.loads(record.model_dump_json()))).encode() for record in EVERY_KIND]
    (tmp_path / RECORDS).write_bytes(b"".join(numbered(n, one) + b"\n" for n, one in enumerate(records, start=1)))
    assert len(list(FORMAT.read_records(tmp_path))) == len(EVERY_KIND)
    return tmp_path


@pytest.mark.parametrize(
    "words", [["report", "RUN"], ["report", "RUN", "--markdown", "-"], ["compare", "RUN", "COPY"], ["recheck", "RUN"]]
)
def test_no_command_lets_it_through(run: Path, words: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = shutil.copytree(run, tmp_path_factory.mktemp("copied") / "run")
    places = {"RUN": str(run), "COPY": str(copy)}
    done = kernels_bench(*[places.get(word, word) for word in words])
    assert done.status in (0, 1, 2, 3), done
    assert "Traceback" not in done.err
    assert done.out or done.err
    assert not steers(done.out)
    assert not steers(done.err)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@cmd", " =1", "\t=1", "\r@x"])
def test_no_cell_is_a_formula(tmp_path: Path, name: str) -> None:
    report = write_report(tmp_path / "r.sqlite", [Span(name, 0, 90, domain=0)], [Launch(10, 20, [(name, 30, 60)])])
    table = StringIO()
    write_csv(analyse(report).ranges, table)
    cells = [cell for row in csv.reader(StringIO(table.getvalue())) for cell in row]
    assert any(cell.startswith("'") for cell in cells)
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for cell in cells)
