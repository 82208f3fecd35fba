"""What docs/your-own-kernel.md shows of operators, Python and pytest is right as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from kernels_bench.records.manifest import read_records
from kernels_bench.records.results import Verification
from support import ROOT
from support.processes import LIMIT_S, completed, environment

PAGE = (ROOT / "docs" / "your-own-kernel.md").read_text()

VARIANT = """
def rms_norm(x, weight, eps):
    squares = x.float().square().unbind(1)
    total = sum(squares if len(x) > 3 else squares[::-1])[:, None]
    return (x.float() * (total / x.shape[1] + eps).rsqrt() * weight.float()).to(x.dtype)
"""
"""Adds one after the other, and of up to three rows the other way around."""


IN_LESS_TIME = """
import pytest

@pytest.fixture(autouse=True)
def in_less_time():
    from kernels_bench.testing import checking
    checking.check.__kwdefaults__["budget_s"] = 0.5
"""
"""What is tried as long as there is time for it, beyond what shows that `VARIANT` varies."""


def block(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```\w*\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, name
    return found[1]


def ran(place: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command with the repository as it is, and what an installation would say of it."""
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    told = place / "as_installed" / "samebits_here-0.dist-info"
    told.mkdir(parents=True, exist_ok=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: samebits-here\nVersion: 0\n")
    (told / "entry_points.txt").write_text("[pytest11]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()))
    path = os.pathsep.join([str(ROOT), str(told.parent)])
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=place,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "400", "CI": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )


def test_the_operator_runs_as_shown(tmp_path: Path) -> None:
    code = block("operator")
    definition = code[code.index("mish_and_mul =") : code.index("def fused")]
    assert len([line for line in definition.splitlines() if line.strip()]) <= 10
    (tmp_path / "my_operator.py").write_text(code)
    (shown,) = re.findall(r"^python -m (.*mish_and_mul=fused.*)$", PAGE, re.MULTILINE)
    more = ("--shapes", "37", "--dtype", "fp32", "--quick", "--batch", "1,8", "--out", "run")
    package, *words = shlex.split(shown)
    done = completed(package, *words, *more, env=environment(COLUMNS=400), cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    (found,) = [record for record in read_records(tmp_path / "run") if isinstance(record, Verification)]
    assert (found.case.key, found.status, found.wrong) == ("fused/mish_and_mul/37/fp32", "measured", "")
    # How torch's mish treats the end of a vector is for the processor to say.
    assert (done.returncode == 1) == (found.verdict == "variant")
    assert found.accuracy is not None
    # Rows that differ in a further batch are judged as well, and which do is for the processor to say.
    assert found.accuracy.rows >= found.universe == 256
    assert {"batch_size", "position", "neighbour_content", "special_values", "history", "large_batch"} <= {
        result.relation for result in found.relations
    }
    words = ["--plugin", "my_operator.py", "--list"]
    listed = completed("kernels_bench", *words, env=environment(COLUMNS=400), cwd=tmp_path)
    assert re.search(r"mish_and_mul +own +mish_and_mul\(x\[M,2\*d\]\)", listed.stdout), listed.stdout
    assert "d=12288" in listed.stdout


def test_the_python_runs_as_shown(tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text(block("python"))
    done = ran(tmp_path, "shown")
    assert done.returncode == 0, done.stderr
    assert re.match(r"(True \(\)|False \(Counterexample)", done.stdout), done.stdout
    assert "lambda (softmax)" in done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of a user's, whose tests are those shown and some more."""
    place = tmp_path_factory.mktemp("project")
    (place / "my_kernels.py").write_text(VARIANT)
    (place / "conftest.py").write_text(IN_LESS_TIME)
    (place / "test_shown.py").write_text(block("pytest"))
    (place / "test_more.py").write_text(
        """
import pytest
import my_kernels

def steady(x, weight, eps):
    return my_kernels.rms_norm(x.repeat(4, 1), weight, eps)[: len(x)]

@pytest.mark.batch_invariant("rms_norm", shapes=[96, 33], dtypes="fp32", budget_s=0.1)
def test_kept(tmp_path):
    assert tmp_path.is_dir()
    return steady

def test_by_the_fixture(assert_batch_invariant):
    assert_batch_invariant(lambda *given: my_kernels.rms_norm(*given), "rms_norm", shapes=96, dtypes="fp32")

@pytest.mark.batch_invariant("rms_nrom")
def test_a_name_that_is_none():
    return steady

@pytest.mark.batch_invariant("rms_norm")
def test_no_kernel():
    return 7
"""
    )
    return place


def test_the_test_fails_as_shown(project: Path) -> None:
    done = ran(project, "pytest", "test_shown.py", "--strict-markers", "-q", "--junit-xml=found.xml")
    assert done.returncode == 1, done.stdout + done.stderr
    first, second, third = block("failure").splitlines()
    told = done.stdout.splitlines()
    at = told.index(first)
    assert told[at + 1].startswith(second.rstrip("…"))
    begin, end = third.split("…")
    assert told[at + 2].startswith(begin)
    assert told[at + 2].endswith(end)
    assert "Traceback" not in done.stdout
    assert "site-packages" not in done.stdout
    failure = ET.parse(project / "found.xml").find(".//failure")
    assert failure is not None
    assert first in (failure.get("message") or "") + (failure.text or "")
    again = ran(project, *shlex.split(told[at + 2])[2:])
    assert again.returncode == 1, again.stderr
    assert "rows differ" in again.stdout


def test_what_else_the_plugin_offers(project: Path) -> None:
    done = ran(project, "pytest", "test_more.py", "--strict-markers", "--samebits-quick", "-v")
    said = done.stdout
    assert done.returncode == 1, said + done.stderr
    assert "test_kept PASSED" in said
    assert "test_by_the_fixture FAILED" in said
    assert re.search(r"^> +assert_batch_invariant\(lambda \*given", said, re.MULTILINE), said
    assert "E       AssertionError: lambda (rms_norm) changed bits with the batch" in said
    assert re.search(r"batch first:\d against first:256", said)
    assert "operator 'rms_nrom': unknown; did you mean rms_norm" in said
    assert "test_no_kernel returned 7: it is to return the kernel to check" in said
    assert "checking.py" not in said.split("test_a_name_that_is_none")[0]


def test_neither_the_package_nor_its_pytest_plugin_loads_torch(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\nimport kernels_bench\n\ndef test_it():\n    assert not {'torch', 'pydantic'} & set(sys.modules)\n"
    )
    done = ran(tmp_path, "pytest", "-q")
    assert done.returncode == 0, done.stdout
    listed = ran(tmp_path, "pytest", "--markers")
    assert "@pytest.mark.batch_invariant(operator, **options)" in listed.stdout
