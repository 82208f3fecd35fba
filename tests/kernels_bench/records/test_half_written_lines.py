"""Run directories whose writer was killed: whole lines are kept, and nothing else is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels_bench.records.manifest import RECORDS, RunDirectory, read_records
from kernels_bench.records.results import Finished
from profiles.run_files.numbered_lines import numbered
from support.processes import wait_until
from support.run_directories import EVERY_KIND, heard, python, texts
from support.stored_records import timing

WRITER = """
import sys
from pathlib import Path
from support.stored_records import manifest, verification
from kernels_bench.records.manifest import RunDirectory
run = RunDirectory.create(Path(sys.argv[1]), manifest())
print("up", flush=True)
while True:
    run.append(verification())
"""


def test_a_writer_that_is_killed_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with python(WRITER, path) as writer:
        assert heard(writer) == "up"
        assert wait_until(lambda: (path / RECORDS).read_bytes().count(b"\n") > 10)
        writer.kill()
    # A line is written by one call, which Linux cuts between two pages at most: the reader drops what was cut.
    whole = (path / RECORDS).read_bytes().count(b"\n")
    assert len(list(read_records(path))) == whole
    resumed = RunDirectory.resume(path)
    assert len(list(resumed.records())) == whole > 10
    resumed.begin()
    assert (path / RECORDS).read_bytes().endswith(b"\n")
    resumed.close()


@pytest.mark.parametrize("kept", [1, 30, -1])
def test_a_half_written_line_is_dropped_with_a_note_and_nothing_else(
    ended: Path, kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (ended / RECORDS).read_bytes()
    half = (numbered(1 + len(EVERY_KIND), timing(m=2048).model_dump_json().encode()) + b"\n")[:kept]
    (ended / RECORDS).write_bytes(before + half)
    assert texts(list(read_records(ended, samples=True))) == texts(list(EVERY_KIND))
    (note,) = capsys.readouterr().err.splitlines()
    assert note.endswith("records.jsonl line 8 was written by half, as by a run that is killed: it is left out")
    resumed = RunDirectory.resume(ended)
    assert (ended / RECORDS).read_bytes() == before + half
    resumed.begin()
    assert (ended / RECORDS).read_bytes() == before
    resumed.append(Finished(seconds=1.0))
    resumed.close()
    assert texts(list(read_records(ended, samples=True))) == texts([*EVERY_KIND, Finished(seconds=1.0)])


def test_nothing_but_a_half_written_line_is_an_empty_run(ended: Path) -> None:
    (ended / RECORDS).write_bytes(b'{"kind":"arm","arm":"tor')
    resumed = RunDirectory.resume(ended)
    assert list(resumed.records()) == []
    resumed.begin()
    assert (ended / RECORDS).read_bytes() == b""
    resumed.close()


def test_a_run_killed_before_its_first_record_goes_on(ended: Path) -> None:
    (ended / RECORDS).unlink()
    (ended / "logs").rmdir()
    resumed = RunDirectory.resume(ended)
    resumed.append(Finished(seconds=1.0))
    assert len(list(resumed.records())) == 1
    assert (ended / "logs").is_dir()
    resumed.close()
