"""What two batches are blamed for is asked of a fresh process: what does not come there follows earlier calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels_bench.commands.run.fresh_processes import _opening
from kernels_bench.records.manifest import read_records
from kernels_bench.records.results import Verification
from support import PLUGINS
from support.processes import Ended, kernels_bench


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, dict[str, Verification]]:
    out = tmp_path_factory.mktemp("fresh") / "run"
    words = ("--op", "mm", "--shapes", "8x48", "--dtype", "fp32", "--arm", "first-eight,few", "--verify-only")
    ended = kernels_bench("--plugin", PLUGINS / "compiles_eight.py", *words, "--out", out)
    # The last record of a case counts.
    return ended, {one.case.arm: one for one in read_records(out) if isinstance(one, Verification)}


def reasons(found: Verification) -> list[str]:
    return [one.reason for one in found.relations if one.relation == "history" and one.status == "broken"]


def test_what_takes_earlier_calls_is_said_to(examined: tuple[Ended, dict[str, Verification]]) -> None:
    ended, found = examined
    assert ended.status == 1, ended.err
    assert found["first-eight"].verdict == "variant"
    assert any(
        reason.startswith("in a fresh process first:") and reason.endswith("what changes them are earlier calls")
        for reason in reasons(found["first-eight"])
    )


def test_what_two_batches_show_anywhere_is_left_to_them(examined: tuple[Ended, dict[str, Verification]]) -> None:
    _, found = examined
    assert found["few"].verdict == "variant"
    assert next(one.relation for one in found["few"].relations if one.status == "broken") == "batch_size"
    assert not reasons(found["few"])


def test_fresh_processes_of_ones_own_kernels_have_another_seed_for_hashes(tmp_path: Path) -> None:
    words = ("--op", "mm", "--arm", "in-a-set,in-a-row", "--shapes", "8x48", "--dtype", "fp32", "--verify-only")
    less = ("--relation", "repeat,history", "--partial")
    ended = kernels_bench("--plugin", PLUGINS / "order_of_names.py", *words, *less, "--out", tmp_path / "run")
    # The last record of a case counts.
    found = {one.case.arm: one for one in read_records(tmp_path / "run") if isinstance(one, Verification)}
    assert (ended.status, found["in-a-row"].verdict) == (1, "sampled"), ended.err
    assert any("another process" in reason for reason in reasons(found["in-a-set"]))


@pytest.mark.parametrize(
    ("operator", "more", "keeping"),
    [
        (
            "mm",
            ("--shapes", "8x48", "--dtype", "bf16,fp32"),
            {
                "plan-of-a-dtype": "at M=1",
                "plan-of-a-view": "after rows that were a view",
                "plan-of-as-many": "at 8x48",
                "plan-of-all": "",
            },
        ),
        ("bag_of_ids", (), {"sum-of-a-beginning": "at M=256", "sum-of-all": ""}),
    ],
)
def test_fresh_processes_meet_dtypes_forms_and_rows_in_another_order(
    tmp_path: Path, operator: str, more: tuple[str, ...], keeping: dict[str, str]
) -> None:
    words = ("--op", operator, "--arm", ",".join(keeping), "--verify-only", "--out", tmp_path / "run", *more)
    less = ("--relation", "repeat,layout,history", "--partial")
    ended = kernels_bench("--plugin", PLUGINS / "keeps_plans.py", *words, *less)
    assert ended.status == 1, ended.err
    found = {one.case.key: one for one in read_records(tmp_path / "run") if isinstance(one, Verification)}
    for one in found.values():
        ending = keeping[one.case.arm]
        assert [reason.endswith(ending) for reason in reasons(one)] == [True] * bool(ending), reasons(one)


def test_fresh_processes_meet_the_ranges_of_m_from_their_other_ends(tmp_path: Path) -> None:
    words = (
        "--op",
        "mm",
        "--arm",
        "tile-of-a-range,plan-of-all",
        "--shapes",
        "8x48",
        "--dtype",
        "fp32",
        "--verify-only",
    )
    less = ("--relation", "repeat,batch_size,history", "--partial", "--out", tmp_path / "run")
    ended = kernels_bench("--plugin", PLUGINS / "keeps_plans.py", *words, *less)
    assert ended.status == 1, ended.err
    found = {one.case.arm: one for one in read_records(tmp_path / "run") if isinstance(one, Verification)}
    assert [reason.endswith("at M=128") for reason in reasons(found["tile-of-a-range"])] == [True]
    assert not reasons(found["plan-of-all"])


def test_only_ends_of_ranges_are_met_that_are_not_met_anyway() -> None:
    assert _opening((1, 16, 256)) == (8, 32, 64, 128, 129)
    assert _opening((1, 16, 65)) == (8, 32, 64)
    assert _opening((1, 2)) == ()
