"""Operators of a user's own go through every command that our own do."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from kernels_bench.records.manifest import read_records
from kernels_bench.records.results import Counterexample, Timing, Verification
from support import PLUGINS
from support.processes import Ended, kernels_bench

OWN = PLUGINS / "own_operators.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    place = tmp_path_factory.mktemp("own") / "run"
    words = ("--plugin", OWN, "--op", "own", "--batch", "1,16", "--quick", "--shapes", "odd,small", "--out", place)
    return place, kernels_bench(*words, COLUMNS=300)


def found(place: Path) -> dict[str, Verification]:
    return {one.case.key: one for one in read_records(place) if isinstance(one, Verification)}


def test_every_case_is_verified_judged_where_it_can_be_and_timed(run: tuple[Path, Ended]) -> None:
    place, ended = run
    assert ended.status == 1, ended.err
    verdicts = {key: one.verdict for key, one in found(place).items()}
    assert verdicts == {
        "steady/scaled/33/bf16": "sampled",
        "steady/ranked/3x4x5/fp32": "sampled",
        "by-size/ranked/3x4x5/fp32": "variant",
    }
    judged = {key: one.accuracy is not None for key, one in found(place).items()}
    assert judged == {key: "scaled" in key for key in verdicts}
    timed = {(one.case.key, one.m) for one in read_records(place) if isinstance(one, Timing) if one.warm is not None}
    assert timed == {(key, m) for key in verdicts for m in (1, 16)}


def test_what_was_not_judged_is_told(run: tuple[Path, Ended]) -> None:
    place, ended = run
    assert "whether results of ranked are right was not judged, since there is no reference" in ended.out
    reported = kernels_bench("report", place, "--json", "-")
    assert {one["operator"]: one["judged"] for one in json.loads(reported.out)["operators"]} == {
        "ranked": False,
        "scaled": True,
    }


def counterexamples(place: Path) -> list[Counterexample]:
    one = found(place)["by-size/ranked/3x4x5/fp32"]
    return [result.counterexample for result in one.relations if result.counterexample is not None]


def test_whole_numbers_differ_by_a_number_and_no_ulp(run: tuple[Path, Ended], tmp_path: Path) -> None:
    known = counterexamples(run[0])
    assert known
    assert all(one.ulp is not None for one in known if one.output == 0)
    (tmp_path / "ids.py").write_text(
        "from kernels_bench import Operator, integers\n"
        "mine = Operator.define('mine', rows={'x': integers(3)}, shapes={'s': {'d': 1}}, results=[integers(3)])\n"
        "def kernel(x): return x + 5 * (len(x) < 4)\n"
    )
    words = ("--plugin", f"{tmp_path / 'ids.py'}:mine=kernel", "--op", "mine", "--dtype", "fp32", "--batch", "1")
    ended = kernels_bench(*words, "--quick", "--relation", "batch_size", "--partial", "--out", tmp_path / "run")
    assert ended.status == 1, ended.err
    (one,) = found(tmp_path / "run").values()
    assert one.counterexample is not None
    assert (one.counterexample.ulp, one.counterexample.got - one.counterexample.expected) == (None, 5)
    again = kernels_bench(*shlex.split(one.counterexample.command)[3:])
    assert again.status == 1, again.err
    assert "which differ by 5\n" in again.out


def test_a_counterexample_is_made_again_alone(run: tuple[Path, Ended]) -> None:
    one, *_ = counterexamples(run[0])  # all are rechecked below
    again = kernels_bench(*shlex.split(one.command)[3:])
    assert again.status == 1, again.err
    assert f"{one.rows} of {one.rows_compared} rows differ" in again.out


def test_all_are_rechecked_and_the_run_compares_with_a_copy(run: tuple[Path, Ended], tmp_path: Path) -> None:
    place, _ = run
    again = kernels_bench("recheck", place)
    assert again.status == 0, again.out + again.err
    count = len(counterexamples(place))
    assert again.out.startswith(f"{count} of {count} counterexamples came out the same, to the last bit")
    copy = shutil.copytree(place, tmp_path / "copy")
    assert kernels_bench("compare", place, copy, "--fail-on", "verdict-worse,missing,bits").status == 0
    assert kernels_bench("--resume", place).status == 1  # nothing is left to do, and what was found stands


def test_its_order_cannot_be_read_and_that_is_told() -> None:
    ended = kernels_bench("order", "--plugin", OWN, "--op", "ranked", "--arm", "steady", "--batch", "1,4")
    assert "steady/ranked/3x4x5/fp32: unsupported" in ended.out, ended.out + ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--op", "ranked", "--arm", "torch"), "--arm torch: has none of the chosen operators; it has ours alone"),
        pytest.param(
            *(("--op", "ranked", "--shapes", "3x4"), "--shapes 3x4: fits none of the chosen operators"),
            marks=pytest.mark.long,
        ),
        pytest.param(
            *(("--op", "ranked", "--relation", "chunking"), "--relation chunking: has no meaning for ranked"),
            marks=pytest.mark.long,
        ),
        (("--op", "rankde"), "--op rankde: unknown; did you mean ranked"),
    ],
)
def test_a_wrong_choice_is_one_line(words: tuple[str, ...], said: str) -> None:
    ended = kernels_bench("--plugin", OWN, *words)
    assert ended.status == 2
    assert ended.err.startswith(f"kernels_bench: {said}"), ended.err
    assert ended.err.count("\n") == 1


def test_an_operator_that_nobody_computes_is_told(tmp_path: Path) -> None:
    file = tmp_path / "alone.py"
    file.write_text(
        "from kernels_bench import Operator\n"
        "lonely = Operator.define('lonely', rows={'x': ('d',)}, shapes={'s': {'d': 3}}, results=('d',))\n"
    )
    ended = kernels_bench("--plugin", file, "--op", "lonely")
    assert ended.status == 2
    assert ended.err == (
        "kernels_bench: no arm has lonely: give it a kernel, such as --plugin FILE:lonely=FUNCTION\n"
    ), ended.err
    listed = kernels_bench("--plugin", file, "--list", COLUMNS=200)
    assert re.search(r"^lonely +own +lonely\(x\[M,d\]\)", listed.out, re.MULTILINE)
