"""A file in a folder is found; a folder is looked into, unless it is an entry itself."""

import sys
from pathlib import Path

import pytest

from kernels_bench.arms import arms
from kernels_bench.discovery import offering


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with an entry in a file, one in a folder, and one that is a folder with files of its own."""
    files = {
        "__init__.py": "",
        "base.py": "",
        "b_file.py": "ARM = 'b'",
        "a_folder/__init__.py": "",
        "a_folder/inner.py": "ARMS = ('inner',)",
        "a_folder/helper.py": "",
        "c_entry/__init__.py": "ARM = 'c'",
        "c_entry/kernels.py": "raise ImportError('nobody but its own entry imports this file')",
    }
    for name, text in files.items():
        path = tmp_path / "planted_house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return "planted_house"


def test_entries_are_found_in_folders_and_in_the_order_of_their_names(house: str) -> None:
    found = offering(house, "ARM", "ARMS")
    assert [module.__name__ for module in found] == [
        "planted_house.a_folder.inner",
        "planted_house.b_file",
        "planted_house.c_entry",
    ]
    assert offering(f"{house}.a_folder", "FAULTS") == []


def test_arms_stand_in_an_order_that_is_said_whatever_their_files_are_called() -> None:
    baseline, *others = arms()
    assert baseline == "torch"
    assert others == sorted(others)
