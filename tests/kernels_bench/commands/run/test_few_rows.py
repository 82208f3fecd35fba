"""Kernels that take few rows alone: a run verifies them among as many, and says so."""

from __future__ import annotations

import shlex

import pytest

from kernels_bench.plan.classes import keeps
from kernels_bench.records.manifest import read_records
from kernels_bench.records.results import AnyRecord, Timing, Verification
from support import PLUGINS
from support.processes import Ended, kernels_bench

PLUGIN = PLUGINS / "few_rows.py"


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, list[AnyRecord]]:
    out = tmp_path_factory.mktemp("few") / "run"
    words = ("--op", "scale", "--arm", "keeps,changes,single", "--batch", "16,200")
    ended = kernels_bench("--plugin", PLUGIN, *words, "--out", out)
    return ended, [*read_records(out)]


@pytest.fixture(scope="module")
def verified(examined: tuple[Ended, list[AnyRecord]]) -> dict[str, Verification]:
    # The last record of a case counts.
    return {one.case.arm: one for one in examined[1] if isinstance(one, Verification)}


def test_what_keeps_its_bits_among_them_is_said_to(
    examined: tuple[Ended, list[AnyRecord]], verified: dict[str, Verification]
) -> None:
    one, ended = verified["keeps"], examined[0]
    assert (one.verdict, one.universe, one.refused) == ("sampled", 96, "at most 96 rows"), ended.err
    assert max(one.digests) == 96
    assert "was verified among at most 96 rows: it takes no more (at most 96 rows)" in " ".join(ended.out.split())
    (larger,) = [result for result in one.relations if result.relation == "large_batch"]
    assert (larger.status, larger.reason) == ("unsupported", "does not take all of its batches: at most 96 rows")
    assert {result.status for result in one.relations if result.relation != "graph"} == {"held", "unsupported"}
    assert {m for result in one.relations for m in result.sizes if m > 96} == set()
    assert not keeps(one)  # for a plan, whose engine has larger batches


def test_a_fault_among_them_is_made_again_alone(verified: dict[str, Verification]) -> None:
    one = verified["changes"]
    assert (one.verdict, one.universe) == ("variant", 96)
    assert one.counterexample is not None
    assert one.counterexample.company.size == 5
    again = kernels_bench(*shlex.split(one.counterexample.command)[3:])
    assert again.status == 1, again.err
    assert "5 of 5 rows differ" in again.out


def test_one_row_alone_cannot_be_compared(verified: dict[str, Verification]) -> None:
    one = verified["single"]
    assert one.verdict == "unsupported"
    assert one.reason == "takes one row alone, which has no batch to depend on: at most 1 rows"


def test_more_rows_have_no_speed(examined: tuple[Ended, list[AnyRecord]]) -> None:
    timed = {(one.case.arm, one.m): one for one in examined[1] if isinstance(one, Timing)}
    assert {key: one.status for key, one in timed.items() if key[0] != "single"} == {
        ("keeps", 16): "measured",
        ("keeps", 200): "unsupported",
        ("changes", 16): "measured",
        ("changes", 200): "unsupported",
    }
    assert timed["changes", 200].reason == "at most 96 rows"
