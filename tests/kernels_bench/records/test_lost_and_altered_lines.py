"""A line that is lost, doubled, moved or altered is named by every reader; what is whole is read as it was written."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from e2e.records import FORMAT as E2E
from e2e.records import RunDirectory as E2eRun
from kernels_bench.records.manifest import FORMAT, MANIFEST, RECORDS, ResultsError
from kernels_bench.records.results import Finished
from profiles.run_files import kernels_bench_run
from profiles.run_files.run_directory import Format
from support.e2e_answers import alone, answer, started, trial
from support.e2e_answers import manifest as e2e_manifest
from support.processes import kernels_bench
from support.run_directories import as_of_schema

Reader = tuple[Format[Any, Any], Path]


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    """A run of e2e."""
    run = E2eRun.create(tmp_path / "answered", e2e_manifest("baseline"))
    for record in (
        started("baseline"),
        alone("baseline", answer(0), answer(0)),
        trial(0, answer(0)),
        trial(1, answer(0)),
    ):
        run.append(record)
    run.close()
    return run.path


@pytest.fixture(params=["kernels_bench", "profiles", "e2e"])
def reader(request: pytest.FixtureRequest) -> Reader:
    """What each command reads runs with, and a run."""
    formats: dict[str, Format[Any, Any]] = {"kernels_bench": FORMAT, "profiles": kernels_bench_run.FORMAT, "e2e": E2E}
    run = request.getfixturevalue("answered" if request.param == "e2e" else "ended")
    return formats[request.param], run


def lines_of(run: Path) -> list[bytes]:
    return (run / RECORDS).read_bytes().splitlines(keepends=True)


def told(reader: Reader, lines: list[bytes]) -> str:
    """What a reader says of a run with these lines instead of its own."""
    form, run = reader
    (run / RECORDS).write_bytes(b"".join(lines))
    with pytest.raises(ResultsError) as caught:
        list(form.read_records(run))
    assert caught.value.status == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_line_that_is_lost_is_named(reader: Reader) -> None:
    lines = lines_of(reader[1])
    for number in range(1, len(lines)):
        said = told(reader, lines[: number - 1] + lines[number:])
        assert f"line {number} is missing: line {number + 1} stands in its place" in said


def test_lines_that_are_doubled_or_moved_are_named(reader: Reader) -> None:
    lines = lines_of(reader[1])
    assert "line 2 is missing: line 1 stands in its place" in told(reader, [lines[0], *lines])
    assert "line 2 is missing: line 3 stands" in told(reader, [lines[0], lines[2], lines[1], *lines[3:]])


def flipped(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Some bit of many bytes, at places of all kinds; not of the last, which ends the last line."""
    for place in range(0, len(data) - 1, 13):
        yield place, data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]


def test_whatever_byte_is_altered_it_is_noticed(reader: Reader) -> None:
    data = b"".join(lines_of(reader[1]))
    ends = [0, *(place + 1 for place, byte in enumerate(data) if byte == ord("\n"))]
    for place, altered in flipped(data):
        number = next(n for n, (begin, end) in enumerate(pairwise(ends), start=1) if begin <= place < end)
        assert f"line {number} is altered" in told(reader, [altered])


def test_lines_put_after_the_last_are_named(reader: Reader) -> None:
    lines = lines_of(reader[1])
    said = told(reader, [*lines, b'{"kind":"finished","seconds":1.0}\n'])
    assert f"line {len(lines) + 1} is altered" in said


def test_a_run_that_calls_itself_older_is_not_read_without_its_numbers(reader: Reader) -> None:
    lines = lines_of(reader[1])
    manifest = (reader[1] / MANIFEST).read_text()
    (reader[1] / MANIFEST).write_text(manifest.replace(f'"schema_version": {reader[0].version}', '"schema_version": 1'))
    if reader[0] is not E2E:
        (reader[1] / MANIFEST).write_text(
            manifest.replace(f'"schema_version": {reader[0].version}', '"schema_version": 4')
        )
    assert f"line 1 is of a newer schema than {MANIFEST} names" in told(reader, lines)


def test_a_run_that_goes_on_goes_on_counting(answered: Path, ended: Path) -> None:
    before = len(lines_of(answered))
    run = E2eRun.resume(answered)
    run.append(trial(2, answer(0)))
    run.close()
    assert lines_of(answered)[-1].startswith(b'{"line":%d,"digest":"' % (before + 1))
    assert len(list(E2E.read_records(answered))) == before + 1


@pytest.mark.parametrize("command", ["report", "recheck"])
def test_a_command_that_meets_one_says_so_in_one_line_with_status_2(ended: Path, command: str) -> None:
    lines = lines_of(ended)
    (ended / RECORDS).write_bytes(b"".join([*lines[:2], *lines[3:]]))
    done = kernels_bench(command, ended)
    assert done.status == 2
    assert f"{ended / RECORDS} line 3 is missing" in done.err
    assert done.err.count("\n") == 1


def test_the_digest_is_what_the_schema_says_it_is(ended: Path) -> None:
    """With the shell's own tools, as anybody may check it."""
    script = (
        r"""{ printf '1\n'; head -n1 "$1" | sed -E 's/"line":1,"digest":"[0-9a-f]+",//' | tr -d '\n'; } | sha256sum"""
    )
    said = subprocess.run(["sh", "-c", script, "sh", ended / RECORDS], capture_output=True, text=True, check=True)
    assert lines_of(ended)[0].startswith(b'{"line":1,"digest":"%s",' % said.stdout[:16].encode())


def test_an_older_run_is_read_without_numbers(ended: Path) -> None:
    before = [record.model_dump_json() for record in FORMAT.read_records(ended)]
    as_of_schema(ended, 4)
    assert b'"digest"' not in (ended / RECORDS).read_bytes().splitlines()[0]
    assert [record.model_dump_json() for record in FORMAT.read_records(ended)] == before
    assert Finished(seconds=12.936636683999495).model_dump_json() in before
