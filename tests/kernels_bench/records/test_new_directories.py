"""Where a new run may be written, and where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels_bench.records.manifest import ResultsError, RunDirectory, default_directory, read_manifest
from support.stored_records import manifest


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
