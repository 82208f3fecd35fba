"""What could be run is known without torch, and to the parent just as to a worker."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels_bench.device import lazy_torch as deferred
from kernels_bench.records.selection import Selection
from kernels_bench.workers.ask_catalogue import catalogue_of, read_catalogue
from kernels_bench.workers.catalogue import catalogue
from support import ROOT


def test_a_worker_says_what_is_expected_of_its_device(tmp_path: Path) -> None:
    found = read_catalogue((), tmp_path / "log")
    assert found == catalogue(found.device) == catalogue_of(Selection())


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_an_accelerators_driver_no_process_is_asked() -> None:
    code = (
        "import sys; from kernels_bench.workers import ask_catalogue; ask_catalogue.WorkerProcess = None;"
        "from kernels_bench.records.selection import Selection;"
        "print(ask_catalogue.catalogue_of(Selection()).device.type, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["cpu", "False"]


OPERATOR = """
from kernels_bench.operators.base import Operator
from kernels_bench.records.cases import Shape


class Mine(Operator):
    name, summary, dims = "mine", "y = x", ("k",)
    shapes = {shapes}
    {further}
    weights = arguments = result_shapes = reference = tolerance = bytes_moved = operations = lambda *_: ()


OPERATORS = {offered}
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, whose sources are compiled once."""
    place = tmp_path_factory.mktemp("checkout")
    for package in ("kernels_bench", "profiles"):
        shutil.copytree(ROOT / package, place / package, ignore=shutil.ignore_patterns("baselines", "__pycache__"))
    return place


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"shapes": "(Shape('a', 8),)"},
            " does not import: TypeError: BaseModel.__init__() takes 1 positional argument but 3 were given, in line 8 "
            "(shapes = (Shape('a', 8),)); expected Shape(label=…, k=…) and, where wanted, n, b",
        ),
        ({"offered": "Mine()"}, ": OPERATORS is <"),
        (
            {"offered": "(Mine,)"},
            ": OPERATORS is (<class 'kernels_bench.operators.of_mine.Mine'>,): expected operators",
        ),
        ({"further": "del summary, dims"}, ": operator Mine has no summary and no dims"),
        ({"further": "timed = 7"}, ": operator mine: TypeError: 'int' object is not iterable"),
        ({"further": "quick = 'all of them'"}, ": operator mine: OperatorInfo cannot be made: quick: Input should be"),
    ],
)
def test_a_mistake_in_an_operators_file_is_one_line_of_the_command(
    checkout: Path, fields: dict[str, str], said: str
) -> None:
    usual = {"shapes": "(Shape(label='a', k=8),)", "further": "", "offered": "(Mine(),)"}
    file = checkout / "kernels_bench" / "operators" / "of_mine.py"
    file.write_text(OPERATOR.format(**usual | fields))
    for stale in file.parent.glob("__pycache__/of_mine.*"):
        stale.unlink()
    ended = subprocess.run(
        [sys.executable, "-m", "kernels_bench", "--list"], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith(f"kernels_bench: {file}{said}")
    assert ended.stderr.count("\n") == 1


def test_deferred_torch_is_torch() -> None:
    assert deferred.torch.Tensor is torch.Tensor
    assert deferred.F.linear is torch.nn.functional.linear
    assert deferred.torch.cuda is torch.cuda


def test_what_was_looked_at_once_is_kept() -> None:
    assert deferred.torch.mm is torch.mm
    assert vars(deferred.torch)["mm"] is torch.mm


def test_what_torch_lacks_the_deferred_one_lacks_too() -> None:
    with pytest.raises(AttributeError, match="no_such_function"):
        getattr(deferred.torch, "no_such_function")  # noqa: B009
