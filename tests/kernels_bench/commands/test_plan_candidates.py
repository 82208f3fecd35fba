"""``plan`` over an arm's candidates on a CPU: searched, verified, chosen from, gone on with; and each of them alone."""

import json
import re
import shutil
from pathlib import Path

import pytest

from kernels_bench.commands.plan import USUAL_SIZES, usual_lengths, usual_sizes
from kernels_bench.plan.record import CasePlan, Plan
from kernels_bench.records.latest_records import LatestRecords, latest_records
from kernels_bench.records.manifest import RECORDS, read_manifest, read_records
from support import ROOT
from support.processes import Ended, kernels_bench

PLUGIN = Path(__file__).parents[2] / "plugins" / "several_tiles.py"
CASE = ("--op", "mean", "--shapes", "24", "--dtype", "fp32", "--plugin", PLUGIN)
GOOD = ("tiled", "tiled[rows16]", "tiled[rows64]")
NAMED = ("tiled", "tiled[rows16]", "tiled[parts2]", "tiled[by_rows]", "tiled[crashes_timed]")
UNTRIED = ("raises", "no_kernels", "hangs", "crashes", "wrong", "gives_nan")
"""The candidates that no rough timing comes back of."""
SEARCHED = (*UNTRIED, "rows64", "unsteady")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A plan among candidates that are named, which all are verified, and among the others, which are searched."""
    run = tmp_path_factory.mktemp("candidates") / "run"
    done = kernels_bench("plan", *CASE, "--batch", "1,8,32", "--arm", ",".join(NAMED), "--run", run)
    assert done.status == 0, done.err
    return run, done


def test_which_candidates_an_arm_lacks_here_is_said_once(planned: tuple[Path, Ended]) -> None:
    said = planned[1].err.splitlines()
    assert said.count("tiled: without tiles of 128, which need another library") == 1


def the_case(run: Path) -> CasePlan:
    (case,) = Plan.model_validate_json((run / "plan.json").read_text()).cases
    return case


def known_of(run: Path) -> LatestRecords:
    return latest_records(read_records(run))


def test_candidates_of_one_order_are_a_class_and_others_are_told_apart_by_a_question(
    planned: tuple[Path, Ended],
) -> None:
    case = the_case(planned[0])
    assert case.chosen is not None
    apart = dict(zip([one.arms for one in case.others], case.apart, strict=True))
    classes = {case.chosen.arms, *apart}
    assert {*map(frozenset, classes)} == {frozenset(GOOD), frozenset({"tiled[parts2]"})}
    (why,) = apart.values()
    assert why.startswith("other bits at M=") or why == "another order of addition"
    assert {one.arm for one in case.stretches} <= {*case.chosen.arms}


def test_a_candidate_that_changes_its_tile_with_m_is_in_no_class_and_its_control_is(
    planned: tuple[Path, Ended],
) -> None:
    case = the_case(planned[0])
    left_out = {one.arm: one.reason for one in case.left_out}
    assert left_out["tiled[by_rows]"].startswith("its bits changed with the batch (batch_size")
    assert "tiled[parts2]" not in left_out
    # A plan's time for orders is not spent on what is in none.
    orders = {one.case.arm: one.order for one in known_of(planned[0]).verifications.values()}
    assert orders["tiled[by_rows]"] is None
    assert all(orders[arm] is not None for arm in GOOD)


def test_what_fails_costs_itself_only_and_is_named(planned: tuple[Path, Ended]) -> None:
    left_out = {one.arm: one.reason for one in the_case(planned[0]).left_out}
    assert left_out["tiled[raises]"] == "failed: RuntimeError with 1 row: out of resource: shared memory"
    assert left_out["tiled[hangs]"] == "failed: no answer within 4 s (--budget)"
    assert left_out["tiled[crashes]"].startswith("failed: the worker of tiled was killed by SIGABRT")
    assert "kernels() raises ImportError: no such tile" in left_out["tiled[no_kernels]"]
    assert "tiled[fp16]" not in left_out  # it is for another dtype


def test_what_is_wrong_keeps_nobody_from_being_tried_however_fast_it_is(planned: tuple[Path, Ended]) -> None:
    left_out = {one.arm: one.reason for one in the_case(planned[0]).left_out}
    assert left_out["tiled[wrong]"].startswith("failed: its result is wrong: row 0 of batch first:1")
    assert "nan where float64 gives" in left_out["tiled[gives_nan]"]
    assert left_out["tiled[unsteady]"].startswith("its bits changed with the batch (repeat")
    assert not {*left_out} & {*GOOD}


def test_what_crashes_while_it_is_timed_takes_no_other_s_times_along(planned: tuple[Path, Ended]) -> None:
    times = known_of(planned[0]).timings.values()
    assert {one.status for one in times if one.case.arm in {*GOOD, "tiled[parts2]"}} == {"measured"}
    left_out = {one.arm: one.reason for one in the_case(planned[0]).left_out}
    assert left_out["tiled[crashes_timed]"].startswith("failed while it was timed at M=1: the worker of tiled was")


def test_all_run_in_one_process_and_rough_timings_are_kept(planned: tuple[Path, Ended]) -> None:
    run, done = planned
    known = known_of(run)
    assert {*known.starts} == {"tiled"}
    assert {one.case.arm for one in known.rough.values()} == {f"tiled[{label}]" for label in SEARCHED}
    manifest = read_manifest(run)
    verified = (f"tiled[{label}]" for label in SEARCHED if label not in UNTRIED)
    assert {arm.name for arm in manifest.arms} == {*NAMED, *verified}
    assert manifest.planned == len(known.verifications) + len(known.timings)
    assert "measurements are missing" not in done.err


def test_a_plan_that_was_interrupted_goes_on_and_loses_nothing(planned: tuple[Path, Ended], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(planned[0], run)
    (run / "plan.json").unlink()
    lines = (run / RECORDS).read_text().splitlines(keepends=True)
    kinds = [json.loads(line)["kind"] for line in lines]
    kept = kinds.index("timing")
    (run / RECORDS).write_text("".join(lines[:kept]))
    unfinished = kernels_bench("plan", "--run", run, "--out", tmp_path / "early.json")
    assert "measurements are missing" in unfinished.err
    assert f"plan --resume {run}" in unfinished.err
    done = kernels_bench("plan", "--resume", run)
    assert done.status == 0, done.err
    now = [json.loads(line)["kind"] for line in (run / RECORDS).read_text().splitlines()]
    assert now.count("rough") == kinds.count("rough")
    assert now.count("verification") == kinds.count("verification")
    assert now.count("timing") == kinds.count("timing")
    assert the_case(run).chosen is not None


def test_a_plan_of_candidates_is_checked(planned: tuple[Path, Ended], tmp_path: Path) -> None:
    held = kernels_bench("plan", "check", planned[0] / "plan.json", "--run", tmp_path / "run")
    assert held.status == 0, held.err
    assert held.out.endswith("the plan holds in 1 of 1 cases\n")


@pytest.mark.long  # candidates of a plugin are searched, verified and planned above
def test_samebits_offers_candidates_on_a_cpu_which_a_plan_searches(tmp_path: Path) -> None:
    run = tmp_path / "run"
    operators = ("linear", "attention_decode")
    where = ("--shapes", "16,96,small/attention", "--dtype", "fp32", "--batch", "1,8", "--length", "16,40")
    words = ("--op", ",".join(operators), *where, "--arm", "samebits")
    done = kernels_bench("plan", *words, "--run", run)
    assert done.status == 0, done.err
    assert "samebits and 6 candidates" in done.err
    cases, known = Plan.model_validate_json((run / "plan.json").read_text()).cases, known_of(run)
    assert {one.status for one in known.rough.values()} == {"measured"}
    assert {m for one in known.rough.values() for m in one.us} == {1, 8}
    assert {case.operator for case in cases} == {*operators}
    assert {one.length for one in known.timings.values()} == {None, 16, 40}
    assert "of sequences of up to 65 tokens" not in done.out.partition("attention_decode")[0]
    assert "of sequences of up to 65 tokens" in done.out.partition("attention_decode")[2]
    for case in cases:
        assert case.chosen is not None
        in_plan = {arm for one in (case.chosen, *case.others) for arm in one.arms}
        assert "samebits" in in_plan
        assert len(in_plan) > 1
        # Each candidate is in a class, or is named with its reason.
        tried = {one.case.arm for one in known.rough.values() if one.case.operator == case.operator}
        assert tried <= in_plan | {one.arm for one in case.left_out}
        # Of different parts of K, or blocks of keys, none share a class.
        orders = [{re.sub("(4|32)rows|4lines", "", arm) for arm in one.arms} for one in (case.chosen, *case.others)]
        assert all(len(each - {"samebits"}) <= 1 for each in orders)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """An ordinary run of two candidates alone."""
    run = tmp_path_factory.mktemp("alone") / "run"
    return run, kernels_bench(*CASE, "--arm", "tiled[rows16],tiled[by_rows]", "--quick", "--out", run)


def test_a_candidate_runs_alone_and_is_held_to_its_arm_s_claims(alone: tuple[Path, Ended]) -> None:
    run, done = alone
    assert done.status == 1, done.err  # by_rows breaks what its arm claims
    known = known_of(run)
    verdicts = {one.case.arm: one.verdict for one in known.verifications.values()}
    assert verdicts == {"tiled[rows16]": "sampled", "tiled[by_rows]": "variant"}
    assert {one.case.arm for one in known.timings.values() if one.status == "measured"} == {*verdicts}
    assert known.rough == {}


def test_its_counterexamples_are_made_again(alone: tuple[Path, Ended]) -> None:
    again = kernels_bench("recheck", alone[0])
    assert again.status == 0, again.err
    found = next(
        result.counterexample
        for one in known_of(alone[0]).verifications.values()
        for result in one.relations
        if result.counterexample is not None
    )
    assert "tiled[by_rows]" in found.command


def test_its_order_is_read() -> None:
    read = kernels_bench("order", *CASE, "--arm", "tiled[parts2]", "--batch", "1,9")
    assert read.status == 0, read.err
    assert "2 parts of 12 terms" in read.out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tiled[rows17]", "--arm tiled[rows17]: unknown; did you mean tiled[rows16]"),
        ("tilde[*]", "--arm tilde: unknown"),
        ("tiled[fp16]", "--arm tiled[fp16]: it is for inputs of fp16; name one by --dtype"),
    ],
)
def test_a_candidate_that_is_none_is_refused(name: str, said: str) -> None:
    refused = kernels_bench(*CASE, "--arm", name)
    assert refused.status == 2
    assert said in refused.err


def test_the_list_says_how_many_there_are() -> None:
    listed = kernels_bench("--list", "--plugin", PLUGIN)
    assert "13 candidates" in listed.out
    assert "6 candidates" in listed.out


@pytest.mark.parametrize(
    ("candidates", "said"),
    [
        ("lambda device: 3", "candidates gives 3: expected a Candidate for each label"),
        ("lambda device: 1 / 0", "candidates raises ZeroDivisionError"),
        ("None", "candidates is None: expected a function"),
        ("lambda device: {'a b': Candidate(dict, ('mean',))}", "a candidate's label is 'a b'"),
        ("lambda device: {'a': Candidate(dict, 'mean')}", "candidate a: offers is 'mean': expected a tuple of names"),
        ("lambda device: {'a': Candidate(dict, ('mean',), ('bf17',))}", "candidate a: dtypes names 'bf17'"),
    ],
)
def test_candidates_that_are_none_are_told(tmp_path: Path, candidates: str, said: str) -> None:
    plugin = tmp_path / "odd.py"
    plugin.write_text(
        f"from kernels_bench.arms import Arm, Candidate\nARM = Arm(name='odd', kernels=dict, candidates={candidates})\n"
    )
    refused = kernels_bench("--op", "mean", "--plugin", plugin)
    assert refused.status == 2
    assert said in refused.err


def test_the_plugin_of_the_docs_runs_as_shown(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "plan.md").read_text()
    block = re.search(r"<!-- plugin: candidates -->\n```python\n(.*?)```", page, re.DOTALL)
    assert block is not None
    (tmp_path / "my_tiles.py").write_text(block[1])
    words = ("--op", "mean", "--shapes", "64", "--dtype", "fp32", "--arm", "mine[*]", "--verify-only", "--quick")
    done = kernels_bench("--plugin", tmp_path / "my_tiles.py", *words, "--out", tmp_path / "run")
    assert done.status == 0, done.err
    verified = known_of(tmp_path / "run").verifications.values()
    assert {one.case.arm: one.verdict for one in verified} == {"mine[16rows]": "sampled", "mine[256rows]": "sampled"}
    first, second = (one.digests for one in verified)
    assert first == second


def test_rows_and_sequences_are_planned_by_m_of_their_own(tmp_path: Path) -> None:
    refused = kernels_bench("plan", "--op", "linear,attention_decode", "--run", tmp_path / "run")
    assert refused.status == 2
    assert "rows of some are sequences; name M by --batch, or plan them apart" in refused.err
    assert usual_sizes(("attention_decode",), "cuda") is None
    assert usual_sizes(("linear", "norms"), "cuda") == USUAL_SIZES["cuda"]
    # What is timed is verified too.
    assert usual_lengths(("attention_decode",), "cuda") == (128, 2048, 32768)
    assert usual_lengths(("linear",), "cuda") is None
