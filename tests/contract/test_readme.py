"""What README and pages say: plugin and options are right, what is drawn is current, and links lead somewhere."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from e2e.cli import app as e2e
from kernels_bench.cli import app as kernels_bench
from kernels_bench.commands.published import published_schema
from kernels_bench.commands.report import summary_of
from kernels_bench.faults import faults
from kernels_bench.records.manifest import read_manifest, read_records
from kernels_bench.records.results import Ceiling, Timing, Verification
from kernels_bench.relations import relations
from kernels_bench.report.readme_table import write_between
from profiles.cli import app as profiles
from support import ROOT

BASELINES = sorted(path.parent for path in (ROOT / "profiles" / "baselines").glob("*/run.json"))
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
APPS = {"kernels_bench": kernels_bench, "e2e": e2e, "profiles": profiles}


def test_the_plugin_runs_as_shown(tmp_path: Path) -> None:
    block = re.search(r"<!-- plugin -->\n```python\n(.*?)```", (DOCS / "your-own-kernel.md").read_text(), re.DOTALL)
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
    assert json.loads((ROOT / "docs" / "schema.json").read_text()) == json.loads(json.dumps(published_schema()))
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


def test_what_is_drawn_from_the_kept_runs_is_current() -> None:
    drawn: dict[Path, str] = runpy.run_path(str(DOCS / "draw.py"))["drawn"]()
    assert [file.name for file, text in drawn.items() if file.read_text() != text] == [], "run python docs/draw.py"
    for run in BASELINES:
        assert f"<!-- table {run.name}: begin -->" in drawn[DOCS / "findings.md"]
    (picture,) = (file for file in drawn if file.suffix == ".svg")
    assert f"]({picture.relative_to(ROOT)})" in (ROOT / "README.md").read_text()


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert [page.name for page in DOCS.glob("*.md") if f"](docs/{page.name})" not in text] == []


def test_the_readme_says_of_two_versions_of_vllm_what_their_page_says() -> None:
    text, page = ((file).read_text() for file in (ROOT / "README.md", DOCS / "vllm-versions.md"))

    def cells(start: str, of: str) -> list[str]:
        (line,) = [line for line in of.splitlines() if line.startswith(start)]
        return [cell.strip() for cell in line.strip("|").split("|")][1:]

    assert cells("| `fused_add_rms_norm`", text) == cells("| `fused_add_rms_norm` |", page)[:2]
    proven = page.count("| proven, ")
    told = " → ".join(cells("| linears of 13 ", text))
    assert told == f"{cells('| all | ', page)[-2]}, one order of addition proven in {proven}"
    assert cells("| softmax of one row", text)[1] == cells("| `softmax/151936/bf16`", page)[0]


def test_pages_count_what_there_is() -> None:
    planted = f"plants {len(faults())} causes"
    assert planted in (DOCS / "what-is-compared.md").read_text()
    assert planted in (ROOT / "CHANGELOG.md").read_text()
    assert len(relations()) == 21  # which README.md and CHANGELOG.md have in a word


@each_page
def test_no_page_names_a_commit(page: Path) -> None:
    words = re.findall(r"\b[0-9a-f]{7}\b|\b[0-9a-f]{40}\b", page.read_text())
    assert [word for word in words if not word.isdecimal() and not word.isalpha()] == []


def anchors(page: Path) -> set[str]:
    """What GitHub calls a page's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        if not path.startswith("https://"):
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target


def commands(page: Path) -> Iterator[list[str]]:
    """Words of every command of ours that a page shows, without its comment."""
    text = page.read_text().replace("\\\n", " ")
    for line in re.findall(r"(?:^|[`$] ?|/)(python -m (?:kernels_bench|e2e|profiles)\b[^`\n]*)", text, re.MULTILINE):
        yield shlex.split(line, comments=True)[2:]


@each_page
def test_commands_have_the_options_that_are_shown(page: Path) -> None:
    for program, *words in commands(page):
        command: Any = typer.main.get_command(APPS[program])
        for word in words:  # commands may have commands of their own, such as plan export
            if not (isinstance(command, TyperGroup) and word in command.commands):
                break
            command = command.commands[word]
        own = words[: words.index("--")] if "--" in words else words
        known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}
        assert {word for word in own if word.startswith("--")} <= known, (program, words)


def test_commands_are_found() -> None:
    assert ["kernels_bench", "order", "--op", "mm", "--shapes", "512,512"] in list(commands(PAGES[0]))
    assert len(list(commands(PAGES[0]))) >= 15


def marked(label: str, text: str) -> str:
    return f"<!-- {label}: begin -->\n{text}\n<!-- {label}: end -->"


def test_seconds_of_kept_runs_are_those_that_they_took_and_no_cell_of_figures_is_empty() -> None:
    page = (DOCS / "timing.md").read_text()
    told = re.findall(r"^\| `(.+)` \| an H100 \(kept run, .+\) \| (\d+) \|$", page, re.MULTILINE)
    commands = {
        run.name: "python -m kernels_bench" + " --op attention" * ("attention" in run.name) for run in BASELINES
    }
    took = {commands[run.name]: summary_of(run).facts.seconds for run in BASELINES}
    assert {command: float(number) for command, number in told} == {
        command: round(seconds) for command, seconds in took.items() if seconds is not None
    }
    assert [line for line in page.splitlines() if line.startswith("|") and re.search(r"\|\s*\|", line)] == []


def test_drawing_keeps_the_rest_of_the_document() -> None:
    both = "a\n" + marked("table", "old") + "\nb\n" + marked("table h100", "older") + "\nz"
    here = "a\n" + marked("table", "old") + "\nb\n" + marked("table h100", "new") + "\nz"
    assert write_between(both, "new", "h100") == here
    assert write_between(both, "new", "other") == both.replace("old\n", "new\n")
    with pytest.raises(ValueError, match=r"no <!-- table h100: begin"):
        write_between("no markers", "new", "h100")
