"""What commands end with whatever befalls them: 1 is said of what was judged, and of nothing else."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from profiles.command_line import CommandLine
from profiles.errors import ExitStatus
from profiles.invocation import INSTALLED, TRACEBACK
from support import BASELINES
from support.processes import LIMIT_S, Ended, completed, environment

H100, ENGINE = BASELINES / "h100-80gb-hbm3-attention", BASELINES / "vllm-e2e" / "h100-80gb-hbm3-smollm2-flash-eager"
LONG = "a" * 300
each_package = pytest.mark.parametrize("package", INSTALLED)


def ended(*words: object, **options: object) -> Ended:
    """A command, as users call it; ``variables`` are added to its environment, other options are `subprocess.run`'s."""
    variables = options.pop("variables", {})
    assert isinstance(variables, dict)
    package, *rest = words
    if not options:
        done = completed(str(package), *rest, env=environment(**variables))
        return Ended(done.returncode, done.stdout, done.stderr, 0.0)
    done = subprocess.run(
        [sys.executable, "-m", *(os.fsencode(str(word)) for word in words)],
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    return Ended(done.returncode, done.stdout, done.stderr, 0.0)


def the_line(package: str, text: str) -> str:
    (line,) = text.splitlines()
    assert line.startswith(f"{package}: ")
    return line.removeprefix(f"{package}: ")


# --- errors that nobody foresaw ----------------------------------------------------------------------------

UNFORESEEN = {
    "a mistake of ours": (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero, in line "),
    "a mistake of ours in many lines": (ValueError("\none\ntwo"), "ValueError: one, in line "),
    "a mistake that steers": (ValueError("a\x1b[2Jb"), "ValueError: a [2Jb, in line "),
    "a mistake without words": (AssertionError(), "AssertionError, in line "),
    "no memory": (MemoryError(), "MemoryError, in line "),
    "a full device": (OSError(errno.ENOSPC, "No space left on device", "some/file"), "some/file: No space left"),
    # Of these typer itself makes status 1, or none.
    "another's pipe": (BrokenPipeError(errno.EPIPE, "Broken pipe"), "Broken pipe"),
    "an input that ended": (EOFError("nothing there"), "EOFError: nothing there, in line "),
}


@pytest.mark.parametrize(("error", "said"), UNFORESEEN.values(), ids=UNFORESEEN)
def test_what_nobody_foresaw_is_one_line_and_a_status_of_its_own(
    capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    app = CommandLine("kernels_bench")

    @app.command()
    def failing() -> int:
        raise error

    with pytest.raises(SystemExit) as caught:
        app([])
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (ExitStatus.ERROR, "")
    assert the_line("kernels_bench", err).startswith(said)


def test_developers_see_where_it_came_from(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRACEBACK, "1")
    app = CommandLine("kernels_bench")

    @app.command()
    def failing() -> int:
        return 1 // 0

    with pytest.raises(SystemExit):
        app([])
    *trace, last = capsys.readouterr().err.splitlines()
    assert any("return 1 // 0" in line for line in trace)
    assert last.startswith("kernels_bench: ZeroDivisionError")


@each_package
def test_a_library_that_is_broken_is_no_finding(tmp_path: Path, package: str) -> None:
    (tmp_path / "typer.py").write_text("raise RuntimeError('this typer is broken')")
    done = ended(package, "--version", variables={"PYTHONPATH": f"{environment()['PYTHONPATH']}:{tmp_path}"})
    if done.status == 0:  # what is installed comes first where PYTHONPATH does not
        pytest.fail("the broken library was not met")
    assert (done.status, done.out) == (ExitStatus.ERROR, "")
    assert the_line(package, done.err).startswith("RuntimeError: this typer is broken, in line 1 of ")


def test_a_machine_that_gives_no_more_files_is_no_finding(tmp_path: Path) -> None:
    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))

    plugin = Path(__file__).parents[1] / "plugins" / "two_speeds.py"  # for which a process is started
    done = ended("kernels_bench", "--list", "--plugin", plugin, preexec_fn=few_files, cwd=tmp_path)
    assert (done.status, done.out) == (ExitStatus.ERROR, "")
    assert "Too many open files" in the_line("kernels_bench", done.err)


@each_package
def test_help_says_what_it_ends_with(package: str) -> None:
    said = " ".join(ended(package, "--help").out.split())
    assert f"4 an error of samebits' own or of the machine ({TRACEBACK}=1 shows where it came from)" in said
    assert "130 Ctrl-C" in said


# --- encodings, names, places and streams ------------------------------------------------------------------

NARROW = {
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "POSIX": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.parametrize("variables", NARROW.values(), ids=NARROW)
def test_an_encoding_that_lacks_a_character_changes_no_status(tmp_path: Path, variables: dict[str, str]) -> None:
    told = run_named("H100 \N{GREEK SMALL LETTER XI} \N{SPOUTING WHALE}", tmp_path)
    usual = ended("kernels_bench", "report", told)
    words = ("kernels_bench", "report", told, "--markdown", tmp_path / "tables.md")
    to_files = ended(*words, "--json", tmp_path / "summary.json", variables=variables)
    assert (to_files.status, to_files.err) == (usual.status, "") == (ExitStatus.VERDICT, "")
    narrow = ended(
        "kernels_bench", "report", told, "--json", "-", variables=variables, encoding=variables.get("PYTHONIOENCODING")
    )
    assert (narrow.status, narrow.err) == (usual.status, "")
    assert json.loads(narrow.out) == json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert "\\u03be \\ud83d\\udc33" in narrow.out
    assert "\N{SPOUTING WHALE}" in (tmp_path / "tables.md").read_text(encoding="utf-8")


def test_an_engines_report_too_is_told_in_every_encoding() -> None:
    variables = {"PYTHONIOENCODING": "ascii"}
    done = ended("e2e", "report", ENGINE, "--full", variables=variables)
    assert (done.status, done.err) == (ExitStatus.VERDICT, "")
    assert "\\u2013" in done.out
    screen = ended("e2e", "report", ENGINE, variables=variables)
    assert (screen.status, screen.err) == (ExitStatus.VERDICT, "")
    assert "serial           invariant   0 of 6" in screen.out


def run_named(device: str, place: Path) -> Path:
    """A run on a device of this name."""
    (place / "run").mkdir()
    manifest = json.loads((H100 / "run.json").read_text(encoding="utf-8"))
    manifest["device"]["name"] = device
    (place / "run" / "run.json").write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
    (place / "run" / "records.jsonl.gz").write_bytes((H100 / "records.jsonl.gz").read_bytes())
    return place / "run"


COMMANDS = {"kernels_bench": ("report",), "e2e": ("report",), "profiles": ("analyze",)}


@pytest.mark.parametrize(("package", "words"), COMMANDS.items())
def test_an_argument_that_is_no_text_is_one_line_and_status_2(package: str, words: tuple[str, ...]) -> None:
    done = ended(package, *words, os.fsdecode(b"a\xffb"))
    assert (done.status, done.out) == (ExitStatus.USAGE, "")
    assert the_line(package, done.err) == "a\\xffb: an argument that is no text in this locale's encoding, utf-8"


@pytest.mark.parametrize("name", [LONG, "a\0b", "\ud800"], ids=["long", "NUL", "surrogate"])
@pytest.mark.parametrize(
    "words",
    [("report",), ("--resume",), ("--plugin",), ("compare", str(H100)), ("report", str(H100), "--json"), ("recheck",)],
    ids=" ".join,
)
def test_a_name_that_no_file_can_have_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    name: str,
) -> None:
    from kernels_bench.cli import app

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        app([*words, name])
    assert caught.value.code in (ExitStatus.USAGE, ExitStatus.INCOMPLETE)
    assert the_line("kernels_bench", capsys.readouterr().err)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("package", "words"), [*COMMANDS.items(), ("kernels_bench", ("--list",)), ("kernels_bench", ("--out", "x"))]
)
def test_a_place_that_is_gone_is_one_line_and_status_2(tmp_path: Path, package: str, words: tuple[str, ...]) -> None:
    place = tmp_path / "gone"
    place.mkdir()
    leaving = 'cd "$0" && rmdir "$0" && exec "$@"'
    done = subprocess.run(
        ["bash", "-c", leaving, place, sys.executable, "-m", package, *words],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (ExitStatus.USAGE, "")
    assert "the current directory: No such file or directory" in the_line(package, done.stderr.splitlines()[-1])


def test_without_standard_streams_a_run_ends_as_it_would_with_them(tmp_path: Path) -> None:
    words = ("--op", "rms_norm", "--arm", "torch", "--dtype", "fp32", "--shapes", "64", "--batch", "1", "--quick")
    line = [sys.executable, "-m", "kernels_bench", *words, "--relation", "repeat", "--partial"]
    closed = ["bash", "-c", '"$@" <&- >&- 2>&-', "bash", *line, "--out", str(tmp_path / "run")]
    done = subprocess.run(closed, env=environment(), capture_output=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert ended("kernels_bench", "report", tmp_path / "run").status == 0
    log = (tmp_path / "run" / "logs" / "torch.log").read_text()
    assert "kernels_bench" not in log  # which is the workers' alone


# --- Ctrl-C ------------------------------------------------------------------------------------------------

# Says when it begins to import what commands are made of.  Python's own first hundredths of a second are nobody's.
BEGUN = """
import runpy, sys
sys.addaudithook(lambda event, what: print(flush=True) if event == "import" and what[0] == "typer" else None)
runpy.run_module({!r}, run_name="__main__", alter_sys=True)
"""


@each_package
def test_ctrl_c_in_the_first_half_second_is_one_line_and_status_130(package: str) -> None:
    draw = random.Random(package)
    asleep = ["capture", "--collector", "torch", "--", "sleep", "600"]
    words = {"kernels_bench": ["--list"], "e2e": ["--trial", "1"], "profiles": asleep}[package]
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", BEGUN.format(package), *words],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(draw.uniform(0.0, 0.5))  # each waits for another process in the end, which takes longer
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, err) == (130, f"{package}: interrupted\n")


# A group of commands, interrupted between its own words and its command's.
BETWEEN = """
import os, signal, typer
from typing import Annotated
from profiles.command_line import CommandLine
from profiles.invocation import begin

begin("profiles")
app = CommandLine("profiles")
interrupt = lambda _: os.kill(os.getpid(), signal.SIGINT)
app.callback()(lambda: None)


@app.command()
def command(asked: Annotated[str, typer.Option(callback=interrupt)] = "") -> int:
    return 0


app.main()
"""


def test_ctrl_c_between_a_groups_words_and_its_commands_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BETWEEN, "command"], env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "profiles: interrupted\n")
