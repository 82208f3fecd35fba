"""What the README says: its plugin runs as shown, its table is drawn from the committed run, its schema is ours."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernels_bench.commands.report import summary_of
from kernels_bench.records.manifest import read_manifest, read_records, schema
from kernels_bench.records.results import Ceiling, Timing, Verification
from kernels_bench.report.readme_table import overview, write_between
from support import ROOT

README = (ROOT / "README.md").read_text()
BASELINES = sorted(path.parent for path in (ROOT / "profiles" / "baselines").glob("*/run.json"))


def test_the_plugin_runs_as_shown(tmp_path: Path) -> None:
    block = re.search(r"<!-- plugin -->\n```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    code = block[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    (tmp_path / "my_kernels.py").write_text(code)
    words = (
        "--plugin my_kernels.py --op rms_norm --arm torch,mine --shapes 96 --batch 1,8 --dtype fp32 --quick --out run"
    )
    done = subprocess.run(
        [sys.executable, "-m", "kernels_bench", *words.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    verified = [record for record in read_records(tmp_path / "run") if isinstance(record, Verification)]
    found = {record.case.arm: record for record in verified}
    assert {arm: (record.status, record.wrong) for arm, record in found.items()} == {
        "torch": ("measured", ""),
        "mine": ("measured", ""),
    }
    # Both add with torch's own mean: whether that varies is for the processor's libraries to say.
    assert (done.returncode == 1) == (found["mine"].verdict == "variant")


def test_the_published_schema_is_that_of_the_records() -> None:
    assert json.loads((ROOT / "docs" / "schema.json").read_text()) == json.loads(json.dumps(schema()))
    command = [sys.executable, "-m", "e2e", "schema"]
    printed = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    ).stdout
    assert (ROOT / "docs" / "e2e-schema.json").read_text() == printed


@pytest.mark.parametrize("run", BASELINES, ids=lambda path: path.name)
def test_a_committed_run_verified_every_case_it_timed_and_names_no_place(run: Path) -> None:
    records = list(read_records(run))
    manifest = read_manifest(run)
    verified = {record.key for record in records if isinstance(record, Verification)}
    timed = {record.case.key for record in records if isinstance(record, Timing)}
    assert timed <= verified
    assert len(verified) >= 100
    assert any(isinstance(record, Ceiling) for record in records)
    assert not re.search(r"/(root|home|work)/", manifest.model_dump_json())


@pytest.mark.parametrize("run", BASELINES, ids=lambda path: path.name)
def test_the_readmes_tables_are_drawn_from_the_committed_runs(run: Path) -> None:
    assert f"<!-- table {run.name}: begin -->" in README
    assert write_between(README, overview(summary_of(run)), run.name) == README


def marked(label: str, text: str) -> str:
    return f"<!-- {label}: begin -->\n{text}\n<!-- {label}: end -->"


def test_drawing_keeps_the_rest_of_the_document() -> None:
    both = "a\n" + marked("table", "old") + "\nb\n" + marked("table h100", "older") + "\nz"
    here = "a\n" + marked("table", "old") + "\nb\n" + marked("table h100", "new") + "\nz"
    assert write_between(both, "new", "h100") == here
    assert write_between(both, "new", "other") == both.replace("old\n", "new\n")
    with pytest.raises(ValueError, match=r"no <!-- table h100: begin"):
        write_between("no markers", "new", "h100")
