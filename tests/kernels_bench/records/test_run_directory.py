"""Run directories: what is written, what is read back, and what a killed, full or foreign one costs."""

from __future__ import annotations

import gzip
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernels_bench.records.cases import Device
from kernels_bench.records.manifest import (
    MANIFEST,
    RECORDS,
    ResultsError,
    RunDirectory,
    default_directory,
    read_manifest,
    read_records,
)
from kernels_bench.records.results import (
    SCHEMA_VERSION,
    AnyRecord,
    ArmStart,
    Ceiling,
    Finished,
    Timing,
    Verification,
)
from profiles.instruments.environment import read_environment
from support import ROOT, TESTS
from support.stored_records import CASE, manifest, timing, verification

EVERY_KIND: tuple[AnyRecord, ...] = (
    ArmStart(arm="samebits", claims=True, provenance="torch 2.13.0+cpu, /a path/x.py", pid=10840, seconds=0.014),
    verification(),
    Verification(case=CASE, status="failed", reason="the worker of samebits was killed by SIGKILL"),
    Ceiling(bandwidth_gb_s=3350.0, tflop_s={"bf16": 989.4, "fp32": math.nan}),
    timing(),
    Timing(case=CASE, m=1, status="skipped", reason="the result is wrong, so its speed means nothing"),
    Finished(seconds=12.936636683999495),
)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    directory = RunDirectory.create(tmp_path / "run", manifest())
    yield directory
    directory.close()


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """A run directory that nobody holds, with every kind of record in it."""
    directory = RunDirectory.create(tmp_path / "ended", manifest())
    for record in EVERY_KIND:
        directory.append(record)
    directory.close()
    return directory.path


def refusal(path: Path) -> ResultsError:
    with pytest.raises(ResultsError) as caught:
        list(RunDirectory.resume(path).records())
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return caught.value


def texts(records: list[AnyRecord]) -> list[str]:
    """As JSON, in which NaN equals NaN."""
    return [record.model_dump_json() for record in records]


# --- round trips -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", EVERY_KIND, ids=lambda record: f"{record.kind}-{getattr(record, 'status', '')}")
def test_every_kind_of_record_comes_back_as_it_was_written(run: RunDirectory, record: AnyRecord) -> None:
    run.append(record)
    (back,) = read_records(run.path, samples=True)
    assert type(back) is type(record)
    assert back.model_dump_json() == record.model_dump_json()


def test_nan_and_infinity_come_back_as_numbers(run: RunDirectory) -> None:
    run.append(verification())
    run.append(timing())
    verified, timed = read_records(run.path)
    assert isinstance(verified, Verification)
    assert isinstance(timed, Timing)
    assert verified.accuracy is not None
    assert verified.counterexample is not None
    assert timed.warm is not None
    assert math.isnan(verified.accuracy.got)
    assert verified.accuracy.worst == math.inf
    assert verified.counterexample.expected == -math.inf
    assert timed.warm.error == math.inf
    assert verified.digests.keys() == {1, 4096}


def test_every_line_is_strict_json(ended: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    lines = (ended / RECORDS).read_text().splitlines()
    kinds = [json.loads(line, parse_constant=refuse)["kind"] for line in lines]
    assert kinds == ["arm", "verification", "verification", "ceiling", "timing", "timing", "finished"]


def test_samples_are_left_out_unless_asked_for(ended: Path) -> None:
    without = next(r for r in read_records(ended) if isinstance(r, Timing))
    whole = next(r for r in read_records(ended, samples=True) if isinstance(r, Timing))
    assert (without.warm_samples, without.cold_samples) == (None, None)
    assert whole.warm_samples is not None
    assert without.warm == whole.warm


def test_the_manifest_comes_back_as_it_was_written(run: RunDirectory) -> None:
    assert read_manifest(run.path) == manifest()


# --- killed writers ----------------------------------------------------------------------------------------

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


def python(script: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    paths = os.pathsep.join(p for p in (str(ROOT), str(TESTS), os.environ.get("PYTHONPATH")) if p)
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths},
        text=True,
        stdout=subprocess.PIPE,
        **options,
    )


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_writer_that_is_killed_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with python(WRITER, path) as writer:
        assert heard(writer) == "up"
        while not (path / RECORDS).stat().st_size:
            time.sleep(0.01)
        time.sleep(0.2)
        writer.kill()
    # A line is written by one call, which Linux cuts between two pages at most: the reader drops what was cut.
    whole = (path / RECORDS).read_bytes().count(b"\n")
    assert len(list(read_records(path))) == whole
    resumed = RunDirectory.resume(path)
    assert len(list(resumed.records())) == whole > 10
    assert (path / RECORDS).read_bytes().endswith(b"\n")
    resumed.close()


@pytest.mark.parametrize("kept", [1, 30, -1])
def test_a_half_written_line_is_dropped_and_nothing_else(ended: Path, kept: int) -> None:
    before = (ended / RECORDS).read_bytes()
    half = (timing(m=2048).model_dump_json() + "\n").encode()[:kept]
    (ended / RECORDS).write_bytes(before + half)
    assert texts(list(read_records(ended, samples=True))) == texts(list(EVERY_KIND))
    resumed = RunDirectory.resume(ended)
    assert (ended / RECORDS).read_bytes() == before
    resumed.append(Finished(seconds=1.0))
    resumed.close()
    assert texts(list(read_records(ended, samples=True))) == texts([*EVERY_KIND, Finished(seconds=1.0)])


def test_nothing_but_a_half_written_line_is_an_empty_run(ended: Path) -> None:
    (ended / RECORDS).write_bytes(b'{"kind":"arm","arm":"tor')
    resumed = RunDirectory.resume(ended)
    assert list(resumed.records()) == []
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


# --- damaged and foreign directories -----------------------------------------------------------------------


@pytest.mark.parametrize(
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
def test_a_damaged_line_in_the_middle_is_named(ended: Path, damage: bytes) -> None:
    lines = (ended / RECORDS).read_bytes().splitlines()
    lines[2] = damage
    (ended / RECORDS).write_bytes(b"\n".join(lines) + b"\n")
    error = refusal(ended)
    assert error.status == 2
    assert "line 3 is damaged" in str(error)


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
    assert f"reads schema 2 and {SCHEMA_VERSION}" in message


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


def test_a_directory_with_something_in_it_is_no_place_for_a_new_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ResultsError, match=r"is not empty; --resume .* goes on") as caught:
        RunDirectory.create(tmp_path, manifest())
    assert caught.value.status == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_directory_may_be_used(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, manifest()).close()
    assert read_manifest(tmp_path) == manifest()


def test_default_directories_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = []
    for _ in range(3):
        made.append(default_directory())
        made[-1].mkdir(parents=True)
    assert len(set(made)) == 3


# --- other processes ---------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from kernels_bench.records.manifest import RunDirectory
run = RunDirectory.resume(Path(sys.argv[1]))
print("holds", flush=True)
time.sleep(600)
"""


def test_a_directory_belongs_to_one_live_process(ended: Path) -> None:
    before = (ended / RECORDS).read_bytes() + b'{"kind":"ti'
    with python(HOLDER, ended) as holder:
        assert heard(holder) == "holds"
        (ended / RECORDS).write_bytes(before)  # as if the other were in the middle of writing
        error = refusal(ended)
        assert "in use by another run" in str(error)
        assert error.status == 2
        assert (ended / RECORDS).read_bytes() == before
        holder.send_signal(signal.SIGKILL)
    RunDirectory.resume(ended).close()


# --- disks -------------------------------------------------------------------------------------------------


def test_a_full_disk_is_one_line_and_status_3(ended: Path) -> None:
    full = ended.parent / "full"
    full.mkdir()
    (full / RECORDS).symlink_to("/dev/full")
    run = RunDirectory(full, manifest())
    with pytest.raises(ResultsError) as caught:
        run.append(timing())
    run.close()
    assert caught.value.status == 3
    assert "No space left on device" in str(caught.value)
    assert f"--resume {full}" in str(caught.value)
    assert "\n" not in str(caught.value)


FILLER = """
import resource, sys
from pathlib import Path
from support.stored_records import timing
from kernels_bench.records.manifest import RECORDS, ResultsError, RunDirectory
path = Path(sys.argv[1])
run = RunDirectory.resume(path)
room = (path / RECORDS).stat().st_size + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
try:
    while True:
        run.append(timing())
        print("written", flush=True)
except ResultsError as error:
    print(error.status, error)
"""


@pytest.mark.parametrize("room", [0, 100, 3000])
def test_what_does_not_fit_is_not_written_by_half(ended: Path, room: int) -> None:
    before = (ended / RECORDS).read_bytes()
    with python(FILLER, ended, room) as filler:
        said = filler.communicate()[0].splitlines()
    line = len(timing().model_dump_json()) + 1
    assert said[-1].startswith("3 cannot write to ")
    assert said[:-1] == ["written"] * (room // line)
    after = (ended / RECORDS).read_bytes()
    assert after.startswith(before)
    assert len(after) == len(before) + (room // line) * line
    assert after.endswith(b"\n")


@pytest.mark.parametrize("path", ["/proc/samebits-run", "/dev/full/run"])
def test_a_place_that_cannot_be_written_is_one_line_and_status_3(path: str) -> None:
    with pytest.raises(ResultsError, match=f"cannot write to {path}: ") as caught:
        RunDirectory.create(Path(path), manifest())
    assert caught.value.status == 3
    assert "\n" not in str(caught.value)


def test_a_file_is_no_place_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ResultsError, match="cannot write to"):
        RunDirectory.create(tmp_path / "file", manifest())
    assert (tmp_path / "file").read_text() == "mine"


# --- environments ------------------------------------------------------------------------------------------


def test_the_same_environment_may_go_on(run: RunDirectory) -> None:
    run.refuse_other_environment(read_environment(), manifest().device)


def test_another_environment_is_refused_with_every_reason(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    now = read_environment()
    now = now.model_copy(update={"versions": {**now.versions, "torch": "9.9.9"}, "source_digest": "other"})
    with pytest.raises(ResultsError) as caught:
        run.refuse_other_environment(now, Device(type="cpu", name="Another CPU"))
    message = str(caught.value)
    assert caught.value.status == 2
    assert "\n" not in message
    for reason in ("OMP_NUM_THREADS", "77 now", "torch", "9.9.9 now", "source_digest", "AMD EPYC then, Another CPU"):
        assert reason in message
