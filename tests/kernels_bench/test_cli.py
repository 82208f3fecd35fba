"""The command as users run it: real processes, real terminals, real signals."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import resource
import shlex
import signal
import struct
import subprocess
import sys
import termios
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from kernels_bench.cli import app
from kernels_bench.records.manifest import RECORDS, read_records
from kernels_bench.records.results import AnyRecord, Timing, Verification
from support import PLUGINS, ROOT
from support.processes import (
    CONTROLS,
    LIMIT_S,
    LOOKED_AT,
    Ended,
    environment,
    finish,
    kernels_bench,
    start,
    together,
    wait_until,
    workers_of,
)
from support.records import known

AGAIN = ("reproduce", "--op", "mm", "--arm", "torch", "--shape", "8x8", "--reference", "first:4")
SMALL = ("--op", "rms_norm", "--dtype", "fp32", "--relation", "repeat,batch_size", "--partial", "--quick")


def verdicts(records: Sequence[AnyRecord]) -> dict[str, object]:
    """What was found out, by case."""
    return {record.key: (record.verdict, known(record)) for record in records if isinstance(record, Verification)}


def one_line(text: str) -> str:
    """The only line, the tool's own."""
    (line,) = text.splitlines()
    assert line.startswith("kernels_bench: ")
    return line


@dataclass(frozen=True)
class SideBySide:
    """Runs that are under way at once, for there are two cores."""

    ordinary: Future[Ordinary]
    variant: Future[OnTerminal]
    answers: Future[dict[str, Ended]]


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SideBySide]:
    with ThreadPoolExecutor(2) as pool:
        yield SideBySide(
            ordinary=pool.submit(run_ordinary, tmp_path_factory.mktemp("ordinary")),
            variant=pool.submit(run_variant, tmp_path_factory.mktemp("variant")),
            answers=pool.submit(ask, tmp_path_factory.mktemp("answers")),
        )


# --- an ordinary run, with the parent looked at from inside -------------------------------------------------


@dataclass(frozen=True)
class Ordinary:
    """An ordinary run and its traces."""

    ended: Ended
    facts: dict[str, Any]
    directory: Path
    left: list[psutil.Process]
    again: Ended


@pytest.fixture(scope="module")
def ordinary(side_by_side: SideBySide) -> Ordinary:
    return side_by_side.ordinary.result()


def run_ordinary(place: Path) -> Ordinary:
    arguments = (*SMALL, "--arm", "torch,samebits", "--shapes", "64", "--batch", "1,16", "--json", "-")
    ended = subprocess.run(
        [sys.executable, "-c", LOOKED_AT, place / "facts", *arguments, "--out", place / "run"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    facts = json.loads((place / "facts").read_text())
    left = workers_of(facts["pid"])
    again = kernels_bench("report", place / "run", "--markdown", place / "tables.md")
    return Ordinary(Ended(ended.returncode, ended.stdout, ended.stderr, 0.0), facts, place / "run", left, again)


def test_every_claim_kept_is_status_0(ordinary: Ordinary) -> None:
    assert (ordinary.ended.status, ordinary.facts["status"]) == (0, 0)


def test_every_planned_case_is_measured_once(ordinary: Ordinary) -> None:
    records = [r for r in read_records(ordinary.directory) if isinstance(r, Verification | Timing)]
    keys = {f"{arm}/rms_norm/64/fp32" for arm in ("torch", "samebits")}
    assert Counter((r.kind, r.key) for r in records) == Counter(
        [("verification", key) for key in keys] + [("timing", f"{key}/{m}") for key in keys for m in (1, 16)]
    )
    assert {record.status for record in records} == {"measured"}


def test_json_on_standard_output_is_nothing_but_json(ordinary: Ordinary) -> None:
    assert {"torch", "samebits"} <= set(re.findall(r'"([a-z0-9-]+)"', ordinary.ended.out))
    assert isinstance(json.loads(ordinary.ended.out), dict)


def test_without_a_terminal_progress_is_plain_lines(ordinary: Ordinary) -> None:
    lines = ordinary.ended.err.splitlines()
    assert "verify: 2 to do" in lines
    assert any(re.fullmatch(r"time: 2 of 2, about 0 s left; rms_norm/64/fp32 M=\d+", line) for line in lines)
    assert any(str(ordinary.directory) in line for line in lines)


def test_without_a_terminal_there_are_no_control_characters(ordinary: Ordinary) -> None:
    for text in (ordinary.ended.out, ordinary.ended.err, ordinary.again.out, ordinary.again.err):
        assert not CONTROLS.findall(text)


def test_a_run_can_be_reported_again(ordinary: Ordinary) -> None:
    assert ordinary.again.status == 0
    assert "samebits" in ordinary.again.out
    tables = (ordinary.directory.parent / "tables.md").read_text()
    assert re.search(r"^\|.*samebits.*\|", tables, re.MULTILINE)


def test_the_parent_never_imports_what_the_workers_need(ordinary: Ordinary) -> None:
    assert ordinary.facts["heavy"] == []


def test_the_parent_stays_small(ordinary: Ordinary) -> None:
    assert 10 < ordinary.facts["peak_mib"] < 300


def test_no_worker_outlives_an_ordinary_run(ordinary: Ordinary) -> None:
    assert ordinary.left == []


# --- a variant kernel, on a real terminal ------------------------------------------------------------------


@dataclass(frozen=True)
class OnTerminal:
    """A run on a terminal: what was shown, its summary, and what its counterexample's command then said."""

    status: int
    shown: str
    records: list[AnyRecord]
    summary: str
    markdown: str
    page: str
    reproduced: Ended
    samebits: Ended


def on_terminal(*arguments: object) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "kernels_bench", *map(str, arguments)],
        env=environment(TERM="xterm-256color"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:  # how a terminal says that its last writer is gone
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    return process.wait(LIMIT_S), shown.decode()


def as_here(command: str) -> list[str]:
    """A printed command's arguments, for `kernels_bench`."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "kernels_bench"]
    return words[3:]


@pytest.fixture(scope="module")
def variant(side_by_side: SideBySide) -> OnTerminal:
    return side_by_side.variant.result()


def run_variant(place: Path) -> OnTerminal:
    arm = ("--arm", "varies", "--plugin", PLUGINS / "varies.py")
    what = ("--op", "mm", *arm, "--shapes", "64,96", "--dtype", "fp32", "--batch", "1,16", "--quick")
    files = ("--json", place / "summary.json", "--markdown", place / "tables.md", "--html", place / "page.html")
    status, shown = on_terminal(*what, "--relation", "repeat,batch_size", *files, "--out", place / "run")
    records = list(read_records(place / "run"))
    (verification,) = [record for record in records if isinstance(record, Verification)]
    assert verification.counterexample is not None
    words = as_here(verification.counterexample.command)
    ours = ["samebits" if word == "varies" else word for word in words]
    again = together({"varies": words, "samebits": ours})
    return OnTerminal(
        status,
        shown,
        records,
        (place / "summary.json").read_text(),
        (place / "tables.md").read_text(),
        (place / "page.html").read_text(),
        again["varies"],
        again["samebits"],
    )


def test_the_variance_of_an_arm_that_claims_nothing_is_no_failure(variant: OnTerminal) -> None:
    (verification,) = [record for record in variant.records if isinstance(record, Verification)]
    assert verification.verdict == "variant"
    assert variant.status == 0


def test_a_terminal_shows_case_count_and_time_left(variant: OnTerminal) -> None:
    assert "\x1b[" in variant.shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", variant.shown)
    assert re.search(r"verify +.*1/1", plain)
    assert re.search(r"time +.*[01]/2 +(\d+:\d\d|-+:--).*", plain)
    assert "mm/64x96/fp32 M=16" in plain
    assert "\x1b[?25h" in variant.shown.rsplit("\x1b[?25l", 1)[1], "the cursor stayed hidden"


def test_a_terminal_shows_the_table_and_the_command(variant: OnTerminal) -> None:
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", variant.shown)
    assert re.search(r"varies +❌ variant", plain)
    assert "python -m kernels_bench reproduce" in plain


def test_summary_and_tables_are_written_to_files(variant: OnTerminal) -> None:
    assert isinstance(json.loads(variant.summary), dict)
    assert "variant" in variant.markdown
    for text in (variant.summary, variant.markdown, variant.page):
        assert not CONTROLS.findall(text)


def test_a_counterexamples_command_reproduces_it(variant: OnTerminal) -> None:
    (verification,) = [record for record in variant.records if isinstance(record, Verification)]
    found = verification.counterexample
    assert found is not None
    assert variant.reproduced.status == 1
    assert f"{found.rows} of {found.rows_compared} rows differ" in variant.reproduced.out
    assert f"row {found.row} " in variant.reproduced.out
    assert found.expected_bits in variant.reproduced.out
    assert found.got_bits in variant.reproduced.out
    assert found.expected_bits != found.got_bits


def test_the_same_command_shows_that_a_fixed_order_keeps_its_bits(variant: OnTerminal) -> None:
    assert variant.samebits.status == 0
    assert "all bits agree" in variant.samebits.out


# --- listing and refusals ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answers(side_by_side: SideBySide) -> dict[str, Ended]:
    return side_by_side.answers.result()


def ask(place: Path) -> dict[str, Ended]:
    (place / "thesis.txt").write_text("mine")
    return together(
        {
            "list": ("--list", "--plugin", PLUGINS / "gated.py"),
            "does not import": ("--plugin", PLUGINS / "does_not_import.py", "--out", place / "new"),
            "taken name": ("--plugin", PLUGINS / "taken_name.py", "--out", place / "new"),
            "unknown company": (*AGAIN, "--batch", "frist:2"),
            "unknown launch": (*AGAIN, "--batch", "first:2", "--launch", "sideways"),
            "unknown option": ("--opp", "mm"),
            "no seconds": ("--timeout", "0", "--out", place / "new"),
            "foreign": ("--resume", place),
            "resume with options": ("--resume", place, "--op", "mm"),
        }
    )


def test_list_names_everything_that_can_be_chosen(answers: dict[str, Ended]) -> None:
    ended = answers["list"]
    assert (ended.status, ended.err) == (0, "")
    assert not CONTROLS.findall(ended.out)
    first_words = {line.split()[0] for line in ended.out.splitlines() if line.strip()}
    assert {"torch", "cublas-restricted", "samebits", "vllm", "vllm-default", "gated"} <= first_words
    assert {"mm", "linear", "addmm", "bmm", "rms_norm", "fused_add_rms_norm"} <= first_words
    assert {"softmax", "log_softmax", "mean"} <= first_words
    assert {"repeat", "batch_size", "position", "neighbour_content", "graph"} <= first_words
    assert {"qwen3-8b/o_proj", "qwen3-1.7b/lm_head", "llama-3.1-8b/hidden", "small/square"} <= first_words
    assert any(word.startswith("deepseek-v3/") for word in first_words)


def test_list_gives_the_reason_for_each_arm_that_cannot_run(answers: dict[str, Ended]) -> None:
    text = answers["list"].out
    if "SM" in text.splitlines()[0]:
        pytest.skip("needs a machine without a GPU")
    assert re.search(r"^cublas-restricted +yes +cuBLASLt .*; cannot run here: \w+", text, re.MULTILINE)
    assert not re.search(r"^(torch|samebits|gated) .*cannot run here", text, re.MULTILINE)


KEPT = ROOT / "profiles" / "baselines" / "h100-80gb-hbm3"


def test_without_a_terminal_no_line_is_broken_unless_columns_says_so(answers: dict[str, Ended]) -> None:
    listed = answers["list"].out.splitlines()
    assert not any("the same with" in line or "the same," in line for line in listed)
    assert not any(line.startswith(" ") or line.endswith(" ") for line in listed)
    assert any(len(line) > 120 for line in listed)
    command = [sys.executable, "-m", "kernels_bench", "report", str(KEPT), "--full", "--op", "mm"]
    texts = {
        columns: subprocess.run(
            command,
            env=environment() | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        for columns, variables in (("none", {}), ("ci", {"FORCE_COLOR": "1"}), ("100", {"COLUMNS": "100"}))
    }
    for text in (texts["none"], re.sub(r"\x1b\[[0-9;]*m", "", texts["ci"])):
        assert text == texts["none"]
        assert "same bits as" in text  # the table's widest column
        # A continued line is indented; so are commands, and the heads of tables by a wider column.
        assert not re.search(r"^ {2,10}(?!python |bits )\S", text, re.MULTILINE)
    prose = [line for line in texts["100"].splitlines() if not line.startswith("    python ")]
    assert max(map(len, prose)) <= 100
    assert len(prose) > texts["none"].count("\n")


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("does not import", "does_not_import.py does not import: ModuleNotFoundError"),
        ("taken name", "there is an arm 'torch' already"),
        ("unknown company", "batch 'frist:2'"),
        ("unknown launch", "--launch sideways"),
        ("no seconds", "--timeout 0"),
        ("foreign", "not a run directory"),
        ("resume with options", "takes its options from the run itself"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(answers: dict[str, Ended], case: str, said: str) -> None:
    ended = answers[case]
    assert (ended.status, ended.out) == (2, "")
    assert said in one_line(ended.err)
    assert not CONTROLS.findall(ended.err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--batch", "1,many"), "--batch many"),
        (("--batch", "1.5"), "--batch 1.5"),
        (("--op", ","), "empty"),
        pytest.param(
            ("--batch", "1,--1"),
            "--batch --1",
        ),
        *(
            pytest.param(
                (*SMALL, "--arm", "torch", "--shapes", "64", "--batch", "1", "--timeout", seconds),
                "--timeout",
            )
            for seconds in ("nan", "inf", "1e300")
        ),
        (("--timeout", "-1"), "--timeout -1"),
        *(
            ((*command, "--timeout", seconds), f"--timeout {seconds}: expected a number of seconds above 0")
            for command in (("order", "--op", "mm"), (*AGAIN, "--batch", "first:2"), ("recheck", "/nowhere/run"))
            for seconds in ("nan", "inf", "-1", "0")
        ),
        *(
            ((*command, "--seed", "-1"), "--seed -1: expected a whole number from 0 on")
            for command in ((), ("order", "--op", "mm"), (*AGAIN, "--batch", "first:2"), ("faults",))
        ),
        (("--plugin", str(PLUGINS / "no_arm.py")), "no_arm.py has no ARM"),
        (("report", "/nowhere/run"), "not a run directory"),
        (("--resume", "/nowhere/run"), "not a run directory"),
        (("--resume", "/nowhere/run", "--out", "x"), "takes its options from the run itself"),
        (("--resume", "/nowhere/run", "--seed", "1"), "takes its options from the run itself"),
    ],
)
def test_nonsense_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        app([*arguments], prog_name="python -m kernels_bench")
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert said in one_line(err)


def test_an_unknown_option_is_status_2(answers: dict[str, Ended]) -> None:
    assert answers["unknown option"].status == 2
    assert "--op" in answers["unknown option"].err
    assert "Traceback" not in answers["unknown option"].err


# --- runs that are ended from outside, and gone on with ----------------------------------------------------

GATED = (
    *("--op", "rms_norm", "--arm", "gated", "--dtype", "fp32", "--relation", "repeat", "--partial", "--quick"),
    *("--shapes", "1x64,1x65,1x66", "--batch", "1,4"),
)
SIGNALS = {"killed": signal.SIGKILL, "interrupted": signal.SIGINT, "terminated": signal.SIGTERM}


@dataclass(frozen=True)
class Cut:
    """A run ended by a signal while a kernel was at work, and how it was gone on with.

    Attributes:
        ended: how it ended.
        before: workers while it ran.
        left: workers that outlived it.
        records: what it had written by then, as bytes.
        resumed: how the resumed run ended; None if it was not.
        directory: of the run.
    """

    ended: Ended
    before: int
    left: list[psutil.Process]
    records: bytes
    resumed: Ended | None
    directory: Path


@dataclass(frozen=True)
class Story:
    """One run left in peace, three that were cut, and three ways to go on that are refused."""

    whole: Ended
    directory: Path
    cut: dict[str, Cut]
    elsewhere: Ended
    full: Ended
    after_full: bytes
    other_plugin: Ended


def _cut(process: subprocess.Popen[str], gate: Path, directory: Path, number: int) -> Cut:
    assert wait_until(gate.with_suffix(".waiting").exists), process.communicate()
    before = len(workers_of(process.pid))
    process.send_signal(number)
    ended = finish(process)
    wait_until(lambda: not workers_of(process.pid))
    return Cut(ended, before, workers_of(process.pid), (directory / RECORDS).read_bytes(), None, directory)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    place = tmp_path_factory.mktemp("story")
    gate = place / "open"
    gate.touch()
    plugin = place / "gated.py"
    plugin.write_text((PLUGINS / "gated.py").read_text())

    def begin(name: str, gate: Path, plugin: Path) -> subprocess.Popen[str]:
        return start(*GATED, "--plugin", plugin, "--out", place / name, SAMEBITS_TEST_GATE=gate)

    def resume(name: str, **variables: object) -> subprocess.Popen[str]:
        return start("--resume", place / name, SAMEBITS_TEST_GATE=gate, **variables)

    def refused() -> tuple[Ended, Ended, bytes, Ended]:
        """Of the terminated run; one after the other, for it belongs to one process at a time."""
        records = place / "terminated" / RECORDS
        room = records.stat().st_size + 20
        elsewhere = finish(resume("terminated", OMP_NUM_THREADS=77))
        filling = resume("terminated")
        resource.prlimit(filling.pid, resource.RLIMIT_FSIZE, (room, room))
        full = finish(filling)
        after_full = records.read_bytes()
        plugin.write_text(plugin.read_text().replace("weight, eps)", "weight, eps) * 1"))
        return elsewhere, full, after_full, kernels_bench("--resume", place / "terminated", SAMEBITS_TEST_GATE=gate)

    cut: dict[str, Cut] = {}
    processes = {
        name: begin(name, place / f"gate-{name}", plugin if name == "terminated" else PLUGINS / "gated.py")
        for name in SIGNALS
    }
    try:
        for name, process in processes.items():
            cut[name] = _cut(process, place / f"gate-{name}", place / name, SIGNALS[name])
    finally:
        for process in processes.values():
            process.kill()
    # The killed one was in the middle of writing a line.
    with (place / "killed" / RECORDS).open("ab") as records:
        records.write(b'{"kind":"verification","case":{"arm":"ga')
    with ThreadPoolExecutor(2) as pool:
        ways = pool.submit(refused)
        resumed = {
            name: pool.submit(kernels_bench, "--resume", place / name, SAMEBITS_TEST_GATE=gate)
            for name in ("killed", "interrupted")
        }
        plugin_as_it_was = ("--plugin", PLUGINS / "gated.py", "--out", place / "whole")
        whole = pool.submit(kernels_bench, *GATED, *plugin_as_it_was, SAMEBITS_TEST_GATE=gate)
    elsewhere, full, after_full, other_plugin = ways.result()
    return Story(
        whole=whole.result(),
        directory=place / "whole",
        cut={name: replace(c, resumed=resumed[name].result() if name in resumed else None) for name, c in cut.items()},
        elsewhere=elsewhere,
        full=full,
        after_full=after_full,
        other_plugin=other_plugin,
    )


@pytest.mark.parametrize(
    ("name", "status"), [("killed", -signal.SIGKILL), ("interrupted", 130), ("terminated", -signal.SIGTERM)]
)
def test_a_signal_ends_the_command_with_its_status(story: Story, name: str, status: int) -> None:
    assert story.cut[name].ended.status == status
    assert "Traceback" not in story.cut[name].ended.err


@pytest.mark.parametrize("name", SIGNALS)
def test_no_worker_outlives_a_command_that_is_ended(story: Story, name: str) -> None:
    assert story.cut[name].before > 0
    assert story.cut[name].left == []


@pytest.mark.parametrize("name", SIGNALS)
def test_a_run_that_is_ended_loses_the_case_at_hand_alone(story: Story, name: str) -> None:
    data = story.cut[name].records
    assert data.endswith(b"\n")
    keys = {(r.get("case") or {}).get("arm", "") + str(r["case"]["shape"]["k"]) for r in _verifications(data)}
    assert {"gated64", "gated65"} <= keys
    assert "gated66" not in keys


def _verifications(data: bytes) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in data.splitlines()]
    return [record for record in records if record["kind"] == "verification"]


def test_a_signal_of_others_says_how_to_go_on_too(story: Story) -> None:
    cut = story.cut["terminated"]
    assert cut.ended.err.splitlines()[-1] == (
        f"kernels_bench: ended by SIGTERM; go on with python -m kernels_bench --resume {cut.directory}"
    )


def test_ctrl_c_shows_what_is_known_and_how_to_go_on(story: Story) -> None:
    cut = story.cut["interrupted"]
    assert cut.ended.err.splitlines()[-1] == (
        f"kernels_bench: interrupted; go on with python -m kernels_bench --resume {cut.directory}"
    )
    assert "gated" in cut.ended.out
    assert not CONTROLS.findall(cut.ended.out + cut.ended.err)


@pytest.mark.parametrize("name", ["killed", "interrupted"])
def test_a_resumed_run_does_nothing_twice_and_leaves_nothing_out(story: Story, name: str) -> None:
    cut = story.cut[name]
    assert cut.resumed is not None
    assert cut.resumed.status == story.whole.status == 0
    assert (cut.directory / RECORDS).read_bytes().startswith(cut.records)

    def done(directory: Path) -> Counter[tuple[str, str]]:
        records = [r for r in read_records(directory) if isinstance(r, Verification | Timing)]
        return Counter((record.kind, record.key) for record in records)

    assert set(done(cut.directory).values()) == {1}
    assert done(cut.directory) == done(story.directory)
    assert len(done(cut.directory)) == 3 * (1 + 2)


@pytest.mark.parametrize("name", ["killed", "interrupted"])
def test_a_resumed_run_comes_to_the_verdicts_of_an_uninterrupted_one(story: Story, name: str) -> None:
    resumed, whole = list(read_records(story.cut[name].directory)), list(read_records(story.directory))
    assert verdicts(resumed) == verdicts(whole)
    assert len(verdicts(whole)) == 3


def test_a_resumed_run_says_so_by_doing_only_what_is_left(story: Story) -> None:
    resumed = story.cut["interrupted"].resumed
    assert resumed is not None
    left = 3 - len(_verifications(story.cut["interrupted"].records))
    assert f"verify: {left} to do" in resumed.err.splitlines()


def test_another_environment_is_refused_with_the_reason(story: Story) -> None:
    assert story.elsewhere.status == 2
    line = one_line(story.elsewhere.err)
    assert "cannot resume" in line
    assert "OMP_NUM_THREADS" in line
    assert "77 now" in line


def test_a_full_disk_ends_the_run_with_one_line_and_keeps_the_results(story: Story) -> None:
    assert story.full.status == 3
    *progress, last = story.full.err.splitlines()
    assert last.startswith("kernels_bench: cannot write to ")
    assert "File too large" in last
    assert "--resume" in last
    assert not any("Traceback" in line for line in progress)
    assert story.after_full == story.cut["terminated"].records


def test_a_plugin_that_changed_since_is_refused(story: Story) -> None:
    assert story.other_plugin.status == 2
    assert "gated.py" in one_line(story.other_plugin.err)
