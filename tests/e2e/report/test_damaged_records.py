"""Records of a run that somebody has altered: each is a record, or one line of error, and never half a verdict."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import tempfile
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2e.cli_run import Targets, show
from e2e.records import FORMAT, RunDirectory, read_state
from e2e.report.speeds import verdicts
from e2e.run.run_arms import _tasks
from profiles.errors import CommandError
from profiles.run_files.numbered_lines import numbered
from support.e2e_answers import OTHER_TOKENS, answer, manifest, started, trial
from support.processes import completed

NEEDLES = 6
ARMS = ("baseline", "serial")


def lines() -> list[dict[str, Any]]:
    """A run in which the baseline varies and serial does not."""
    answers = [answer(needle) for needle in range(NEEDLES)]
    changed = [OTHER_TOKENS, *answers[1:]]
    found = []
    for arm in ARMS:
        found.append(started(arm).model_dump(mode="json") | {"needles": [[1, 2]] * NEEDLES})
        alone = [one.model_dump(mode="json") for one in (*answers, *answers)]
        found.append({"kind": "alone", "arm": arm, "answers": alone})
        found.append(trial(0, *(changed if arm == "baseline" else answers), arm=arm).model_dump(mode="json"))
    return [json.loads(json.dumps(record)) for record in found]


def written(records: list[Any], path: Path, run: Any = None) -> Path:
    path.mkdir(exist_ok=True)
    said = manifest(*ARMS).model_dump(mode="json") if run is None else run
    (path / "run.json").write_text(json.dumps(said))
    texts = (numbered(line, json.dumps(record).encode()) for line, record in enumerate(records, start=1))
    (path / "records.jsonl").write_bytes(b"".join(text + b"\n" for text in texts))
    return path


def reported(path: Path) -> subprocess.CompletedProcess[str]:
    return completed("e2e", "report", path)


def test_a_whole_run_is_reported(tmp_path: Path) -> None:
    done = reported(written(lines(), tmp_path / "run"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "serial    ✅ invariant" in done.stdout


def test_answers_that_are_missing_from_the_run_alone_are_no_verdict_and_asked_for_again(tmp_path: Path) -> None:
    records = lines()
    records[4]["answers"] = records[4]["answers"][:10]
    done = reported(written(records, tmp_path / "run"))
    assert done.returncode == 3, done.stdout + done.stderr
    reason = "holds 10 answers where 12 belong there, 2 of each of 6 needles in turn; --resume asks again"
    assert f"serial failed: the record of the needles alone {reason}" in done.stdout
    run = RunDirectory.resume(tmp_path / "run")
    (task,) = _tasks(run.manifest, "model", read_state(run.records()))
    run.close()
    assert (task.arm, task.trials, task.known) == ("serial", (), False)


@pytest.mark.parametrize("left", [[0, 1, 2, 3, 4], [1, 0, 2, 3, 4, 5], [0, 1, 2, 3, 4, 4], []])
def test_a_trial_whose_answers_are_others_is_no_verdict(tmp_path: Path, left: list[int]) -> None:
    records = lines()
    answers = records[5]["answers"]
    records[5]["answers"] = [answers[needle] for needle in left]
    path = written(records, tmp_path / "run")
    ledger = read_state(FORMAT.read_records(path))
    assert f"trial 1 holds {len(left)} answers where 6 belong there" in ledger.lost["serial"].reason
    assert verdicts(ledger, manifest(*ARMS).asked)["serial"].verdict == "inconclusive"
    assert reported(path).returncode == 3


@pytest.mark.parametrize(
    ("line", "field", "value", "said"),
    [
        (2, "seconds", 0.0, "trial.seconds: Input should be greater than or equal to 0.000000001"),
        (2, "seconds", "Infinity", "trial.seconds"),
        (2, "trial", -7, "trial.trial"),
        (2, "batch_size", 10**400, "trial.batch_size"),
        (0, "init_s", 0, "started.init_s"),
        (0, "needles", [], "started.needles"),
        (2, "answers", [{"needle": 0, "tokens": [1, 2], "logprobs": [0]}], "1 log probabilities for 2 tokens"),
        (2, "answers", [{"needle": 0, "tokens": [1], "logprobs": [1 << 32]}], "trial.answers.0.logprobs.0"),
        (2, "answers", [{"needle": 0, "tokens": [], "logprobs": []}], "trial.answers.0.tokens"),
    ],
)
def test_what_is_no_record_is_one_line(tmp_path: Path, line: int, field: str, value: Any, said: str) -> None:
    records = lines()
    records[line][field] = value
    done = reported(written(records, tmp_path / "run"))
    assert (done.returncode, done.stdout) == (2, "")
    (told,) = done.stderr.splitlines()
    assert f"records.jsonl line {line + 1} is damaged: " in told
    assert said in told


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("options", {"num_trials": 10**12}, "--num-trials 1000000000000: expected 1 to 1000000"),
        ("options", {"needles": 0}, "--needles 0: expected at least 1"),
        ("arms", [], "arms: "),
        ("trials", [-3], "trials.0: "),
    ],
)
def test_what_is_no_manifest_is_one_line(tmp_path: Path, field: str, value: Any, said: str) -> None:
    run = manifest(*ARMS, trials=None).model_dump(mode="json")
    run[field] = run[field] | value if isinstance(value, dict) else value
    done = reported(written(lines(), tmp_path / "run", run))
    assert (done.returncode, done.stdout) == (2, "")
    (told,) = done.stderr.splitlines()
    assert "run.json is damaged: " in told
    assert said in told


HOSTILE: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        1,
        10**30,
        0.0,
        -0.5,
        1e-320,
        1e308,
        "NaN",
        "Infinity",
        "",
        "x\x1b[2J",
        [],
        {},
        [[]],
        [0],
        {"a": 1},
    ]
)


@cache
def whole_manifest() -> dict[str, Any]:
    found: dict[str, Any] = manifest(*ARMS).model_dump(mode="json")
    return found


@st.composite
def damaged(draw: st.DrawFn) -> tuple[list[Any], Any]:
    """A run with one to three places that hold something else, nothing, or the same twice."""
    both: list[Any] = [lines(), deepcopy(whole_manifest()) | {"trials": draw(st.sampled_from([None, [0]]))}]
    for _ in range(draw(st.integers(1, 3))):
        node: Any = both
        key: Any = draw(st.sampled_from([0, 0, 0, 1]))
        while isinstance(node[key], (list, dict)) and node[key] and draw(st.integers(0, 5)):
            node = node[key]
            key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if node is both:
            continue
        change = draw(st.sampled_from([*["replace"] * 4, "remove", "repeat"]))
        if change == "remove":
            del node[key]
        elif change == "repeat" and isinstance(node, list):
            node.append(deepcopy(node[key]))
        else:
            node[key] = deepcopy(draw(HOSTILE))
        if not all(both):
            break
    return both[0], both[1]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged(), st.booleans())
def test_whatever_stands_in_a_run_it_is_reported_or_one_line(run: tuple[list[Any], Any], whole: bool) -> None:
    records, said = run
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            run_directory = written(records, Path(place) / "run", said)
            status = show(run_directory, Targets(full=whole))
        except CommandError as error:
            told = str(error)
        else:
            told = f"exit status {int(status)}"
            assert status in (0, 1, 3)
            assert told in " ".join(out.getvalue().split())  # however wide a terminal is said to be
    assert len(told.splitlines()) == 1
