"""Command lines that nobody would type: one line of error at most, and a documented status, whatever they hold."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.core import TyperGroup

from e2e.cli import app as e2e
from kernels_bench.cli import app as kernels_bench
from profiles.cli import app as profiles
from profiles.command_line import CommandLine
from support import BASELINES

APPS: dict[str, CommandLine] = {"kernels_bench": kernels_bench, "e2e": e2e, "profiles": profiles}
# 4 is documented too, and is said of mistakes of ours: the very thing that is looked for.
DOCUMENTED = {0, 1, 2, 3, 130}
RUNS = (str(BASELINES / "h100-80gb-hbm3-attention"), str(BASELINES / "vllm-e2e" / "h100-80gb-hbm3-smollm2-flash-eager"))
# Relative to a directory that is removed afterwards, or nowhere.
FILES = ("nowhere/file", "a.json", ".", "", "-", "/dev/null", "/dev/full", "/proc/self/mem", "a" * 300, "a/" * 3000)
# Commands that read and judge what is there; all others would start processes, which tests elsewhere do.
READING = {
    "kernels_bench": ("report", "compare", "schema"),
    "e2e": ("report", "schema"),
    "profiles": ("analyze", "cut"),
}
HARMLESS = ("--help", "--version", "-h", "--", "--no-such-option", "--=", "-", "--json=", "--resume=nowhere")

odd_text = st.text(max_size=30) | st.from_regex(r"-?[0-9]{1,5}(\.[0-9]+)?", fullmatch=True) | st.just("9" * 5000)
word = st.sampled_from((*FILES, *RUNS, *HARMLESS)) | odd_text


def options(package: str, command: str) -> list[str]:
    group = typer.main.get_command(APPS[package])
    assert isinstance(group, TyperGroup)
    return [name for param in group.commands[command].params for name in param.opts if name.startswith("--")]


@st.composite
def read(draw: st.DrawFn, package: str) -> list[str]:
    """A command that reads, with some of its options and values of every kind."""
    command = draw(st.sampled_from(READING[package]))
    named = st.tuples(st.sampled_from([*options(package, command), "--help"]), word).map(list)
    parts = draw(st.lists(named | word.map(lambda one: [one]), max_size=5))
    return [command, *(one for part in parts for one in part)]


@st.composite
def refused(draw: st.DrawFn, package: str) -> list[str]:
    """Any words before an option that is none, so that nothing is begun."""
    return [*draw(st.lists(word, max_size=4)), "--no-such-option"]


def ended(package: str, words: Sequence[str]) -> tuple[object, str]:
    """How a command line ends in this process, and what it says of errors."""
    said = StringIO()
    with TemporaryDirectory() as place, chdir(place), redirect_stdout(StringIO()), redirect_stderr(said):
        Path("a.json").write_text("{}")
        try:
            APPS[package](words)
        except SystemExit as end:
            return end.code, said.getvalue()
    raise AssertionError("a command line ends its process")


def check(package: str, words: Sequence[str]) -> None:
    status, said = ended(package, words)
    assert status in DOCUMENTED, (words, status, said)
    assert "Traceback" not in said
    assert status != 2 or len(said.splitlines()) == 1, (words, said)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", said), (words, said)


def fuzz(package: str, examples: int) -> None:
    few = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)

    @few
    @given(read(package) | refused(package))
    def every_line_ends_well(words: list[str]) -> None:
        check(package, words)

    every_line_ends_well()


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("examples", [40, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("package", APPS)
def test_no_command_line_ends_otherwise_than_documented(
    package: str, examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("VLLM_BENCH_")]:
        monkeypatch.delenv(name)
    fuzz(package, examples)
