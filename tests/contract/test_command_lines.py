"""The frame of the three command lines, in real processes: statuses, one line an error, readers that go away."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from profiles.invocation import INSTALLED
from support import BASELINES
from support.processes import LIMIT_S, completed, environment, wait_until
from support.profiler_reports import Launch, Span, write_report

H100, ENGINE = BASELINES / "h100-80gb-hbm3-attention", BASELINES / "vllm-e2e" / "h100-80gb-hbm3-smollm2-flash-eager"
PACKAGES = tuple(INSTALLED)
# Words and the status that they have when somebody reads what they print.
READ: Mapping[str, tuple[int, tuple[object, ...]]] = {
    "help": (0, ("kernels_bench", "--help")),
    "completion": (0, ("profiles", "--show-completion")),
    "schema": (0, ("e2e", "schema")),
    "list": (0, ("kernels_bench", "--list")),
    "report": (1, ("kernels_bench", "report", H100)),
    "report as JSON": (1, ("kernels_bench", "report", H100, "--json", "-")),
    "report of an engine": (1, ("e2e", "report", ENGINE)),
}


def each_command(*few: str) -> pytest.MarkDecorator:
    """A few that print by different means; before a release all of them."""
    cases = [pytest.param(*READ[name], id=name, marks=[] if name in few else [pytest.mark.long]) for name in READ]
    return pytest.mark.parametrize(("status", "words"), cases)


each_package = pytest.mark.parametrize("package", PACKAGES)


def line(*words: object) -> list[str]:
    return [sys.executable, "-m", *map(str, words)]


def in_bash(script: str, *words: object, **variables: object) -> subprocess.CompletedProcess[str]:
    """A script of bash, in which ``"$@"`` is a command."""
    return subprocess.run(
        ["bash", "--norc", "-c", script, "bash", *line(*words)],
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


# --- who reads, and who does not ---------------------------------------------------------------------------


# Buffered and not, a stream is made of other parts: of typer's own words and of ours.
@pytest.mark.parametrize(
    ("name", "unbuffered"),
    [
        *((name, "") for name in ("help", "schema", "report", "list")),
        *(pytest.param(name, "", marks=pytest.mark.long) for name in ("completion", "report as JSON")),
        pytest.param("report of an engine", "", marks=pytest.mark.long),
        *((name, "1") for name in ("help", "schema", "report")),
    ],
)
def test_a_reader_that_has_gone_away_changes_nothing(name: str, unbuffered: str) -> None:
    status, words = READ[name]
    # Completion is for the shell that a command is called from.
    shell = ["bash", "-c", '"$@"; exit $?', "bash"] if name == "completion" else []
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*shell, *line(*words)],
        env=environment(PYTHONUNBUFFERED=unbuffered),
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (status, "")


def test_a_reader_that_takes_one_line_gets_it_and_files_are_written_nevertheless(tmp_path: Path) -> None:
    script = '"$@" --markdown "$HERE" | head -1; echo ${PIPESTATUS[0]}'
    done = in_bash(script, "kernels_bench", "report", H100, HERE=tmp_path / "tables.md")
    answer, status = done.stdout.splitlines()
    assert answer.startswith("flash-attn3-invariant claims batch invariance and did not keep it")
    assert (status, done.stderr) == ("1", "")
    assert (tmp_path / "tables.md").stat().st_size > 1000


def test_errors_that_nobody_reads_change_nothing_either() -> None:
    done = in_bash('"$@" 2>&1 | true; echo ${PIPESTATUS[0]}', "kernels_bench", "--opp")
    assert (done.stdout, done.stderr) == ("2\n", "")


@each_command("help", "schema", "list", "report")
def test_standard_output_that_is_closed_from_the_start_leads_nowhere(status: int, words: tuple[object, ...]) -> None:
    done = in_bash('"$@" >&-', *words)
    assert (done.returncode, done.stderr) == (status, "")


def test_errors_do_not_go_to_standard_output_where_there_is_no_other() -> None:
    done = in_bash('"$@" 2>&-', "kernels_bench", "--opp")
    assert (done.returncode, done.stdout) == (2, "")


@each_command("help", "completion", "report as JSON")
def test_output_that_finds_no_room_is_one_line_and_status_3(status: int, words: tuple[object, ...]) -> None:
    done = in_bash('"$@" >/dev/full', *words)
    assert done.returncode == 3
    assert done.stderr == f"{words[0]}: cannot write to standard output: No space left on device\n"


# --- versions and completion -------------------------------------------------------------------------------


def test_all_packages_tell_the_same_versions_and_import_no_torch_for_it() -> None:
    told = {package: subprocess_without_torch(package) for package in PACKAGES}
    assert len(set(told.values())) == 1
    python = ".".join(map(str, sys.version_info[:3]))
    from torch import __version__ as torch

    (text,) = set(told.values())
    assert text.startswith("samebits ")
    assert text.endswith(f", Python {python}, torch {torch}\n")


def subprocess_without_torch(package: str) -> str:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['x', '--version']\n"
        f"try: runpy.run_module({package!r}, run_name='__main__', alter_sys=True)\n"
        "finally: assert not {'torch', 'triton', 'vllm'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@each_package
def test_a_shell_completes_the_installed_command(package: str, tmp_path: Path) -> None:
    command = INSTALLED[package]
    program = tmp_path / command
    program.write_text(f"#!{sys.executable}\nfrom {package}.__main__ import main\n\nmain()\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    path = f"{tmp_path}:{os.environ['PATH']}"
    installed = in_bash('"$@"; exit $?', package, "--install-completion", HOME=tmp_path, PATH=path)
    assert (installed.returncode, installed.stderr) == (0, "")
    assert "bash completion installed" in installed.stdout
    function = f"_{command.replace('-', '_')}_completion"
    asked = (
        f"source {tmp_path}/.bash_completions/{command}.sh; complete -p {command} >&2; "
        f"COMP_WORDS=({command} re); COMP_CWORD=1; {function} {command}; echo ${{COMPREPLY[*]}}"
    )
    answer = in_bash(asked, HOME=tmp_path, PATH=path)
    assert answer.stderr == f"complete -o default -F {function} {command}\n"
    expected = {"kernels_bench": {"reproduce", "report", "recheck"}, "e2e": {"report", "replay"}, "profiles": set()}
    assert set(answer.stdout.split()) == expected[package]
    shown = in_bash('"$@"; exit $?', package, "--show-completion")
    assert shown.stdout == (tmp_path / ".bash_completions" / f"{command}.sh").read_text() + "\n"


@each_package
def test_completion_that_cannot_be_had_is_one_line(package: str) -> None:
    done = in_bash('"$@"; exit $?', package, "--install-completion", HOME="/dev/null")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"{package}: cannot install completion: /dev/null")
    assert done.stderr.count("\n") == 1
    # A shell is looked for among the processes above, ten at most.
    none = subprocess.run(
        [*["timeout", "200"] * 12, *line(package, "--show-completion")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    said = f"{package}: this shell is not known; there is completion for bash, zsh, fish and PowerShell\n"
    assert (none.returncode, none.stdout, none.stderr) == (2, "", said)


# --- mistakes and signals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("kernels_bench --opp mm", "No such option: --opp"),
        ("kernels_bench --op", "Option '--op' requires an argument"),
        ("kernels_bench --seed many", "Invalid value for '--seed'"),
        ("kernels_bench order", "Missing option '--op'; see python -m kernels_bench order --help"),
        ("kernels_bench nothing", "No such command 'nothing'"),
        ("e2e report", "Missing argument"),
        ("e2e --batch-size many", "Invalid value for '--batch-size'"),
        ("profiles", "Missing command; see python -m profiles --help"),
        ("profiles analyze", "Missing argument"),
        ("kernels_bench --json - --markdown -", "--json and --markdown: only one of them can be -"),
        (f"kernels_bench report {H100} --json - --markdown -", "--json and --markdown: only one of them can be -"),
        (f"kernels_bench report {H100} --html - --json -", "--json and --html: only one of them can be -"),
        ("profiles analyze any --csv - --json - --html -", "--csv and --json and --html: only one of them can be -"),
        ("profiles analyze any --json - --html -", "--json and --html: only one of them can be -"),
    ],
)
def test_a_mistake_in_the_words_is_one_line_and_status_2(words: str, said: str) -> None:
    package, *rest = shlex.split(words)
    done = completed(package, *rest)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{package}: {said}")
    assert done.stderr.count("\n") == 1


def full_pipe() -> tuple[int, int]:
    """A pipe that takes nothing more: who writes to it waits."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"." * 4096)
    os.set_blocking(writing, True)
    return reading, writing


def at_rest(process: psutil.Process) -> bool:
    """Whether a process waits for something, and not for its turn on a busy machine."""

    def seen() -> tuple[object, ...]:
        return process.status(), process.cpu_times()[:2], process.num_ctx_switches()

    before = seen()
    time.sleep(0.5)
    return before[0] == psutil.STATUS_SLEEPING and seen() == before


@pytest.mark.parametrize("words", [f"kernels_bench report {H100}", f"e2e report {ENGINE}", "profiles analyze a.sqlite"])
def test_ctrl_c_is_one_line_and_status_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_report(tmp_path / "a.sqlite", [Span("r", 0, 100)], [Launch(10, 20, [("k", 30, 40)])])
    reading, writing = full_pipe()
    process = subprocess.Popen(
        line(*words.split()), env=environment(), stdout=writing, stderr=subprocess.PIPE, text=True
    )
    assert wait_until(lambda: process.poll() is not None or at_rest(psutil.Process(process.pid)))
    assert process.poll() is None, process.communicate()
    for _ in range(4):  # Python forgets one that comes while it tidies up an object
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
            break
    _, err = process.communicate(timeout=LIMIT_S)
    os.close(reading)
    os.close(writing)
    assert (process.returncode, err) == (130, f"{words.split(maxsplit=1)[0]}: interrupted\n")


# --- what a report says, and how it ends -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--into", "cannot draw into nowhere/file: No such file or directory"),
        ("--json", "cannot write nowhere/file: No such file or directory"),
        ("--markdown", "cannot write nowhere/file: No such file or directory"),
        ("--html", "cannot write nowhere/file: No such file or directory"),
    ],
)
def test_a_report_that_cannot_be_kept_claims_no_other_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = completed("kernels_bench", "report", H100, option, "nowhere/file")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"kernels_bench: {said}\n")


SMALL = shlex.split("--op rms_norm --arm torch --dtype fp32 --shapes 64 --batch 1 --relation repeat --partial --quick")


@pytest.mark.parametrize(("file", "reason"), [("nowhere/file", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = completed("kernels_bench", *SMALL, "--out", "run", "--json", file)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"kernels_bench: cannot write {file}: {reason}\n"
    assert not (tmp_path / "run").exists()


def test_a_file_that_no_room_was_left_for_is_told_with_where_the_results_are(tmp_path: Path) -> None:
    done = completed("kernels_bench", *SMALL, "--out", tmp_path / "run", "--json", "/dev/full")
    assert (done.returncode, done.stdout) == (3, "")
    kept = f"python -m kernels_bench report {tmp_path / 'run'}"
    said = f"cannot write /dev/full: No space left on device; what was measured is kept, see {kept}"
    assert done.stderr.splitlines()[-1] == f"kernels_bench: {said}"
    assert completed("kernels_bench", "report", tmp_path / "run").returncode == 0
