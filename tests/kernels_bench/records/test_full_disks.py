"""Disks that are full: nothing is written by half."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernels_bench.records.manifest import RECORDS, ResultsError, RunDirectory
from profiles.run_files.numbered_lines import numbered
from support.run_directories import python
from support.stored_records import timing


def is_open_at(descriptor: int, file: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == str(file)
    except OSError:
        return False


def test_a_full_disk_is_one_line_and_status_3(ended: Path) -> None:
    run = RunDirectory.resume(ended)
    run.begin()
    descriptor = next(fd for fd in map(int, os.listdir("/proc/self/fd")) if is_open_at(fd, ended / RECORDS))
    with open("/dev/full", "ab") as full:
        os.dup2(full.fileno(), descriptor)
    with pytest.raises(ResultsError) as caught:
        run.append(timing())
    run.close()
    assert caught.value.status == 3
    assert "No space left on device" in str(caught.value)
    assert f"--resume {ended}" in str(caught.value)
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
    line = len(numbered(9, timing().model_dump_json().encode())) + 1  # of one digit, as there are few
    assert said[-1].startswith("3 cannot write to ")
    assert said[:-1] == ["written"] * (room // line)
    after = (ended / RECORDS).read_bytes()
    assert after.startswith(before)
    assert len(after) == len(before) + (room // line) * line
    assert after.endswith(b"\n")
