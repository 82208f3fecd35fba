"""A run that is not gone on with is as it was, to the byte, and nothing that it leads to is touched."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kernels_bench.records.manifest import MANIFEST, RECORDS, RunDirectory
from support.processes import kernels_bench
from support.run_directories import python, refusal
from support.stored_records import manifest

HALF = b'{"line":8,"digest":"00'


def picture(place: Path) -> dict[str, str]:
    """Every name below a directory, with what is there."""
    return {str(path.relative_to(place)): _content(path) for path in sorted(place.rglob("*"))}


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"


def leads_out(directory: Path) -> None:
    target = directory.parent / "mine.jsonl"
    (directory / RECORDS).rename(target)
    (directory / RECORDS).symlink_to(target)


def logs_lead_out(directory: Path) -> None:
    (directory.parent / "elsewhere").mkdir()
    (directory / "logs").rmdir()
    (directory / "logs").symlink_to(directory.parent / "elsewhere")


def a_log_leads_out(directory: Path) -> None:
    (directory.parent / "mine.txt").write_text("mine")
    (directory / "logs" / "torch.log").symlink_to(directory.parent / "mine.txt")


def a_log_is_a_pipe(directory: Path) -> None:
    os.mkfifo(directory / "logs" / "torch.log")


def damaged_in_the_middle(directory: Path) -> None:
    lines = (directory / RECORDS).read_bytes().splitlines(keepends=True)
    (directory / RECORDS).write_bytes(b"".join([lines[0], b"{}\n", *lines[2:], HALF]))


def packed(directory: Path) -> None:
    (directory / f"{RECORDS}.gz").write_bytes(gzip.compress((directory / RECORDS).read_bytes()))


@pytest.mark.parametrize(
    "how", [leads_out, logs_lead_out, a_log_leads_out, a_log_is_a_pipe, damaged_in_the_middle, packed]
)
def test_a_refused_run_is_left_as_it_was(ended: Path, how: Callable[[Path], None]) -> None:
    with (ended / RECORDS).open("ab") as records:
        records.write(HALF)
    how(ended)
    before = picture(ended.parent)
    error = refusal(ended)
    assert error.status == 2
    assert picture(ended.parent) == before


def test_a_run_of_another_environment_is_left_as_it_was(ended: Path) -> None:
    """By the command itself, to its end: no line is dropped, none is added."""
    manifest = json.loads((ended / MANIFEST).read_text())
    manifest["environment"]["versions"]["torch"] = "0.1"
    (ended / MANIFEST).write_text(json.dumps(manifest))
    with (ended / RECORDS).open("ab") as records:
        records.write(HALF)
    (ended / "logs").rmdir()
    before = picture(ended.parent)
    done = kernels_bench("--resume", ended)
    assert done.status == 2
    assert "the environment differs" in done.err
    assert picture(ended.parent) == before


def test_what_is_in_the_place_of_records_is_refused_without_waiting(ended: Path) -> None:
    (ended / RECORDS).unlink()
    os.mkfifo(ended / RECORDS)
    assert "no regular file" in str(refusal(ended))


FULL_WHILE_CREATED = """
import resource, sys
from pathlib import Path
from support.stored_records import manifest
from kernels_bench.records.manifest import ResultsError, RunDirectory
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    RunDirectory.create(Path(sys.argv[1]), manifest())
except ResultsError as error:
    print(error.status, error)
"""


@pytest.mark.parametrize("room", [0, 100])
def test_a_disk_that_fills_while_a_run_is_created_leaves_a_place_for_it(tmp_path: Path, room: int) -> None:
    with python(FULL_WHILE_CREATED, tmp_path / "run", room, stderr=subprocess.PIPE) as filler:
        said, erred = filler.communicate()
    assert said.startswith("3 cannot write to"), erred
    RunDirectory.create(tmp_path / "run", manifest()).close()
    RunDirectory.resume(tmp_path / "run").close()


KILLED_WHILE_CREATED = """
import os, sys
from pathlib import Path
from support.stored_records import manifest
from kernels_bench.records.manifest import RunDirectory
calls, die_at = 0, int(sys.argv[2])
def watch(event, arguments):
    global calls
    if event in ("os.mkdir", "open", "os.rename", "os.truncate") and str(arguments[0]).startswith(sys.argv[1]):
        calls += 1
        if calls == die_at:
            os.kill(os.getpid(), 9)
known = manifest()
sys.addaudithook(watch)
RunDirectory.create(Path(sys.argv[1]), known)
print("created")
"""


def test_a_process_that_is_killed_while_it_creates_a_run_leaves_what_one_of_the_two_takes(tmp_path: Path) -> None:
    """Killed before each step that touches the disk, from the first to the last."""
    steps = 0
    while True:
        steps += 1
        place = tmp_path / str(steps)
        with python(KILLED_WHILE_CREATED, place, steps) as process:
            said = process.communicate()[0]
        if said == "created\n":
            break
        if (place / MANIFEST).exists():
            RunDirectory.resume(place).begin()
        else:
            RunDirectory.create(place, manifest()).close()
            assert {path.name for path in place.iterdir()} == {MANIFEST, RECORDS, "logs"}
    assert steps > 4
