"""Run directories that are damaged, packed or somebody else's."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kernels_bench.records.manifest import MANIFEST, RECORDS, ResultsError, RunDirectory, read_records
from kernels_bench.records.results import NUMBERED_FROM, READABLE_VERSIONS, SCHEMA_VERSION, Finished
from profiles.run_files.numbered_lines import numbered
from support.run_directories import EVERY_KIND, as_of_schema, refusal, texts

DAMAGE = pytest.mark.parametrize(
    "damage",
    [
        b"\x00" * 40,
        b"\xff\xfe",
        b"",
        b"[]",
        b'{"kind":"timing"}',
        b'{"kind":"dream"}',
        b'{"kind":"finished","seconds":1,"more":2}',
    ],
)


def with_third_line(directory: Path, line: bytes) -> None:
    lines = (directory / RECORDS).read_bytes().splitlines()
    lines[2] = line
    (directory / RECORDS).write_bytes(b"\n".join(lines) + b"\n")


@DAMAGE
def test_a_damaged_line_in_the_middle_is_named(ended: Path, damage: bytes) -> None:
    with_third_line(ended, damage)
    error = refusal(ended)
    assert error.status == 2
    assert "line 3 is altered" in str(error)


@DAMAGE
@pytest.mark.parametrize("version", [version for version in READABLE_VERSIONS if version < NUMBERED_FROM])
def test_a_damaged_line_of_an_older_run_is_named(ended: Path, damage: bytes, version: int) -> None:
    as_of_schema(ended, version)
    with_third_line(ended, damage)
    with pytest.raises(ResultsError, match="line 3 is damaged") as caught:
        list(read_records(ended))
    assert caught.value.status == 2


def test_a_line_whose_digest_is_right_and_whose_record_is_not_is_named(ended: Path) -> None:
    with_third_line(ended, numbered(3, b'{"kind":"dream"}'))
    assert "line 3 is damaged" in str(refusal(ended))


def packed(directory: Path) -> Path:
    """Its records, compressed as kept runs' are."""
    file = directory / f"{RECORDS}.gz"
    file.write_bytes(gzip.compress((directory / RECORDS).read_bytes()))
    (directory / RECORDS).unlink()
    return file


def unreadable(directory: Path, file: Path) -> None:
    with pytest.raises(ResultsError, match=f"^cannot read {file}: .*copy it again$") as caught:
        list(read_records(directory))
    assert caught.value.status == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[: len(data) // 2], id="cut"),
        pytest.param(lambda data: b"no gzip at all", id="foreign"),
        pytest.param(lambda data: data[:10] + b"\xff" * 40 + data[50:], id="turned"),
        pytest.param(lambda data: data[:-8] + b"\0" * 8, id="checksum"),
    ],
)
def test_packed_records_that_are_damaged_are_one_line(ended: Path, damage: Callable[[bytes], bytes]) -> None:
    file = packed(ended)
    whole = len(list(read_records(ended)))
    assert whole == len(EVERY_KIND)
    file.write_bytes(damage(file.read_bytes()))
    unreadable(ended, file)


def test_records_that_are_a_directory_are_one_line(ended: Path) -> None:
    (ended / RECORDS).unlink()
    (ended / RECORDS).mkdir()
    unreadable(ended, ended / RECORDS)


@pytest.mark.parametrize("beside", [False, True])
def test_a_packed_run_is_not_gone_on_with_until_it_is_unpacked(ended: Path, beside: bool) -> None:
    before = texts(list(read_records(ended, samples=True)))
    file = packed(ended)
    if beside:
        (ended / RECORDS).write_bytes(b"")
    error = refusal(ended)
    assert error.status == 2
    assert f"gunzip {file} first" in str(error)
    assert (ended / RECORDS).exists() == beside
    subprocess.run(["gunzip", "--force", file], check=True)
    resumed = RunDirectory.resume(ended)
    resumed.append(Finished(seconds=1.0))
    resumed.close()
    assert texts(list(read_records(ended, samples=True))) == [*before, Finished(seconds=1.0).model_dump_json()]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"schema_version": 1}', "\x00", "3"])
def test_a_damaged_manifest_is_refused(ended: Path, text: str) -> None:
    (ended / MANIFEST).write_text(text)
    error = refusal(ended)
    assert error.status == 2
    assert MANIFEST in str(error)


def test_a_manifest_that_is_no_text_is_refused(ended: Path) -> None:
    (ended / MANIFEST).write_bytes(b"\xff\xfe\x00\x80")
    assert "damaged" in str(refusal(ended))


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 0, "1", None])
def test_another_schema_is_refused_with_both_versions(ended: Path, version: object) -> None:
    data = json.loads((ended / MANIFEST).read_text())
    (ended / MANIFEST).write_text(json.dumps({**data, "schema_version": version, "from_the_future": True}))
    message = str(refusal(ended))
    assert f"schema {version!r}" in message
    assert f"reads schema 2, 3, 4, 5 and {SCHEMA_VERSION}" in message


def test_a_foreign_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert "not a run directory" in str(refusal(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_no_directory_and_a_file_are_no_run_directories(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nothing", tmp_path / "file"):
        assert "not a run directory" in str(refusal(path))


def test_a_run_whose_logs_are_no_directory_is_refused(ended: Path) -> None:
    (ended / "logs").rmdir()
    (ended / "logs").write_text("")
    refusal(ended)
