"""Files: what is none is not read and not waited for, and what is written is there whole or not at all."""

from __future__ import annotations

import gzip
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from profiles.files import lines_of, read_file, write_whole, written_whole
from support import ROOT
from support.processes import LIMIT_S

MOST = 1 << 20


def test_a_file_is_read_plain_and_packed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\ntwo")
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"one\ntwo"))
    for path in (tmp_path / "a", tmp_path / "a.gz"):
        assert read_file(path, 7) == b"one\ntwo"
        assert list(lines_of(path, 4, 7)) == [b"one\n", b"two"]
        with pytest.raises(OSError, match="larger than"):
            read_file(path, 6)
        with pytest.raises(OSError, match="line 1 is longer than"):
            list(lines_of(path, 3, 7))
        with pytest.raises(OSError, match="larger than"):
            list(lines_of(path, 4, 6))


@pytest.mark.parametrize("name", ["pipe", "pipe.gz", "zero", "directory"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    if name.startswith("pipe"):
        os.mkfifo(place)
    elif name == "zero":
        place.symlink_to("/dev/zero")
    else:
        place.mkdir()
    for read in (lambda: read_file(place, MOST), lambda: list(lines_of(place, MOST, MOST))):
        with pytest.raises(OSError, match=r"no regular file|Is a directory") as caught:
            read()
        assert caught.value.strerror


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(bytes(range(256)) * 40)[:-9], b"\x1f\x8b\x08\0" + b"\xff" * 40]
)
def test_a_damaged_packed_file_says_what_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        read_file(tmp_path / "a.gz", MOST)
    assert caught.value.strerror


def test_a_failure_while_writing_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(ZeroDivisionError), written_whole(tmp_path / "a") as file:  # noqa: PT012
        file.write("half")
        raise ZeroDivisionError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "mine")]


def test_a_link_stays_and_the_file_behind_it_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    (tmp_path / "a").chmod(0o640)
    (tmp_path / "link").symlink_to("a")
    write_whole(tmp_path / "link", "yours\r\n")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a").read_bytes() == b"yours\r\n"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    write_whole(Path("/dev/null"), "nothing")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True)
    write_whole(tmp_path / "pipe", "said")
    assert reader.communicate(timeout=LIMIT_S)[0] == "said"


DOCUMENT = "<!-- table: begin -->\n<!-- table: end -->\n" + "The end of a long document.\n" * 2000
RUN = ROOT / "profiles" / "baselines" / "h100-80gb-hbm3-attention"


@pytest.mark.parametrize("option", ["--into", "--markdown", "--json"])
def test_on_a_full_disk_a_report_leaves_the_document_as_it_was(tmp_path: Path, option: str) -> None:
    document = tmp_path / "DOC.md"
    document.write_text(DOCUMENT)
    room = 1000
    done = subprocess.run(
        [sys.executable, "-m", "kernels_bench", "report", RUN, option, document],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    assert done.returncode == 3
    assert "File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert document.read_text() == DOCUMENT
    assert [path.name for path in tmp_path.iterdir()] == ["DOC.md"]
