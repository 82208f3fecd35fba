"""``plan`` on a CPU: measured, chosen, shown again, and checked."""

import json
import re
import resource
import shutil
from pathlib import Path

import pytest

from kernels_bench.commands.plan import check_against, plan_of
from kernels_bench.plan.file import read_plan
from kernels_bench.plan.record import Plan
from kernels_bench.plan.words import price_lines
from kernels_bench.records.manifest import ResultsError
from kernels_bench.records.selection import Selection
from support.processes import finish, kernels_bench, start

ROOT = Path(__file__).parents[3]
KEPT = ROOT / "profiles" / "plans"
TWO_SPEEDS = Path(__file__).parents[2] / "plugins" / "two_speeds.py"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of which a plan was made, and what the command said; the plugin is a copy, which tests may change."""
    place = tmp_path_factory.mktemp("plan")
    plugin = place / "speeds.py"
    plugin.write_text(TWO_SPEEDS.read_text())
    done = kernels_bench(
        *("plan", "--op", "mean", "--shapes", "24", "--dtype", "fp32", "--batch", "1,8,16,64", "--run", place / "run"),
        *("--plugin", plugin, "--arm", "few,many,backwards,either", "--html", place / "plan.html"),
    )
    assert done.status == 0, done.err
    return place, done.out


@pytest.fixture
def plan(measured: tuple[Path, str]) -> Plan:
    return Plan.model_validate_json((measured[0] / "run" / "plan.json").read_text())


def test_all_ranges_have_kernels_of_the_same_bits(plan: Plan) -> None:
    (case,) = plan.cases
    assert case.chosen is not None
    assert case.chosen.arms == ("few", "many")
    assert case.chosen.basis == "proven"
    assert "one after the other" in case.chosen.order
    # Which of them is the faster, and whether it is surely, is the machine's affair.
    assert {one.arm for one in case.stretches} <= {"few", "many"}
    assert (case.stretches[0].first, case.stretches[-1].last) == (1, None)


def test_what_is_not_in_the_plan_is_said_with_its_reason(plan: Plan) -> None:
    (case,) = plan.cases
    left_out = {one.arm: one.reason for one in case.left_out}
    assert left_out["either"].startswith("its bits changed with the batch (batch_size")
    apart = {arm: why for one, why in zip(case.others, case.apart, strict=True) for arm in one.arms}
    assert apart["backwards"].startswith("other bits at M=")


def test_it_is_told_in_lines_and_drawn(measured: tuple[Path, str]) -> None:
    place, said = measured
    assert said.startswith("mean 24 fp32\n")
    assert "order of addition proven: the same in all (24 terms one after the other)" in said
    assert "not backwards: other bits at M=" in said
    assert "kernels of the same bits at every M in 1 of 1 cases" in said
    page = (place / "plan.html").read_text()
    assert "<svg" in page
    assert "not backwards: other bits at M=" in page


def test_it_is_shown_again_and_made_anew_of_the_same_run(measured: tuple[Path, str], tmp_path: Path) -> None:
    place, said = measured
    shown = kernels_bench("plan", "show", place / "run" / "plan.json")
    assert shown.status == 0
    assert shown.out.strip() in said
    again = kernels_bench("plan", "--run", place / "run", "--weights", "prefill", "--out", "-")
    assert again.status == 2
    assert "counts none of M=1, 8, 16, 64" in again.err
    again = kernels_bench("plan", "--run", place / "run", "--weights", "decode", "--out", tmp_path / "p.json")
    assert again.status == 0, again.err
    assert json.loads((tmp_path / "p.json").read_text())["weighting"] == "decode"
    for words, said in (
        (("--batch", "1,2"), "it has measured already"),
        (("--op", "meen"), "--op meen: the run has none; did you mean mean"),
        (("--today", "nobody"), "--today nobody: the run has none"),
    ):
        refused = kernels_bench("plan", "--run", place / "run", *words)
        assert refused.status == 2
        assert said in refused.err


def test_parts_of_a_run_are_chosen_from_and_compared_with_what_is_used_now(
    measured: tuple[Path, str], tmp_path: Path
) -> None:
    run, file = measured[0] / "run", tmp_path / "p.json"
    words = ("--op", "mean", "--arm", "many,backwards", "--shapes", "24", "--dtype", "fp32", "--today", "backwards")
    done = kernels_bench("plan", "--run", run, *words, "--out", file)
    assert done.status == 0, done.err
    (case,) = Plan.model_validate_json(file.read_text()).cases
    assert case.chosen is not None
    assert case.today is not None
    assert {*case.chosen.arms, *(arm for one in case.others for arm in one.arms)} == {"many", "backwards"}
    assert case.today.same_bits == ("backwards" in case.chosen.arms)
    assert case.today.mean is not None
    assert "of backwards, whose bits it has in" in done.out


def test_a_plan_that_holds_and_one_that_does_not(measured: tuple[Path, str], tmp_path: Path) -> None:
    place, _ = measured
    file, plugin = place / "run" / "plan.json", place / "speeds.py"
    held = kernels_bench("plan", "check", file, "--run", tmp_path / "held")
    assert held.status == 0, held.err
    assert held.out.endswith("mean/24/fp32: holds\nthe plan holds in 1 of 1 cases\n")
    written = plugin.read_text()
    try:
        plugin.write_text(written.replace("return _rows(x, flipped(len(x)))", "return _rows(x, not flipped(len(x)))"))
        other = kernels_bench("plan", "check", file, "--run", tmp_path / "other")
    finally:
        plugin.write_text(written)
    assert other.status == 1, other.err
    assert "mean/24/fp32: differs: few has other bits at M=" in other.out
    # Of other rows other bits are no kernel's doing.
    told = json.loads(file.read_text())
    told["cases"][0]["chosen"]["data"] = "0" * 32
    (told_of_other_rows := tmp_path / "plan.json").write_text(json.dumps(told))
    (found,) = check_against(read_plan(told_of_other_rows), tmp_path / "other")
    assert (found.status, "was given other rows" in found.reason) == ("unknown", True)
    assert [one.status for one in check_against(read_plan(told_of_other_rows), tmp_path / "held")] == ["holds"]


def test_a_plan_made_elsewhere_is_refused_with_what_differs(measured: tuple[Path, str], tmp_path: Path) -> None:
    told = json.loads((measured[0] / "run" / "plan.json").read_text())
    told["environment"]["versions"]["torch"] = "1.0"
    told["device"]["name"] = "another"
    (tmp_path / "elsewhere.json").write_text(json.dumps(told))
    refused = kernels_bench("plan", "check", tmp_path / "elsewhere.json")
    assert refused.status == 2
    assert "device: another then" in refused.err
    assert "torch: 1.0 then" in refused.err
    assert "--force" in refused.err


def test_of_a_plan_for_another_device_its_kernels_are_not_looked_for() -> None:
    """They are not here, which is no mistyped name: the device is what differs."""
    refused = kernels_bench("plan", "check", KEPT / "nvidia-h200-deepseek-v3-router" / "plan.json")
    assert refused.status == 2
    assert "the plan was made elsewhere: device: NVIDIA H200 then" in refused.err
    assert "did you mean" not in refused.err


@pytest.mark.parametrize("content", ["", "{}", "[1", '{"schema_version": 2}', "\x00"])
def test_what_is_no_plan_is_one_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "plan.json"
    file.write_text(content)
    for word in ("show", "check"):
        refused_in_one_line(word, file)


def test_a_plan_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    refused_in_one_line("show", tmp_path / "none.json")


def test_a_directory_in_place_of_a_plan_says_where_the_plan_is(measured: tuple[Path, str], tmp_path: Path) -> None:
    run = shutil.copytree(measured[0] / "run", tmp_path / "run")
    with pytest.raises(ResultsError, match=re.escape(f"{run}: Is a directory; its plan is {run / 'plan.json'}")):
        read_plan(run)
    (run / "plan.json").unlink()
    with pytest.raises(ResultsError, match=re.escape(f"plan --run {run} makes one")):
        read_plan(run)
    (run / "run.json").unlink()
    with pytest.raises(ResultsError, match=r"Is a directory$"):
        read_plan(run)


def test_a_full_disk_says_how_to_go_on_with_a_plan(tmp_path: Path) -> None:
    run = tmp_path / "run"
    one = start(
        "plan", "--op", "mean", "--shapes", "24", "--dtype", "fp32", "--arm", "torch", "--budget", 0, "--run", run
    )
    # Room for what is said of the run, and for few of its records.
    resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (1 << 13, 1 << 13))
    done = finish(one)
    assert done.status == 3
    assert f"and python -m kernels_bench plan --resume {run} goes on once there is room" in done.err.splitlines()[-1]


def refused_in_one_line(word: str, file: Path) -> None:
    done = kernels_bench("plan", word, file)
    assert done.status == 2
    assert len(done.err.splitlines()) == 1, done.err


def test_a_run_without_times_has_no_plan(tmp_path: Path) -> None:
    run = tmp_path / "run"
    kernels_bench(
        "--op", "mean", "--shapes", "24", "--dtype", "fp32", "--verify-only", "--arm", "torch", "--quick", "--out", run
    )
    done = kernels_bench("plan", "--run", run)
    assert done.status == 2
    assert "nothing was verified and timed that a plan can choose from" in done.err


def test_what_pages_say_of_the_kept_run_is_what_a_plan_of_it_says() -> None:
    """On an H100, the plan of the GEMMs of a model in 16 bits beside vLLM's own."""
    only = Selection(op=("mm", "linear", "linear_bias", "addmm"), dtype=("bf16", "fp16"))
    plan = plan_of(ROOT / "profiles" / "baselines" / "h100-80gb-hbm3", "even", only, "vllm")
    told = next(line for line in price_lines(plan) if line.startswith("shapes of models") and "vllm" in line)
    (cases, times, same) = re.fullmatch(r"shapes of models: in (\d+) cases (.+) times .* in (\d+)", told).groups()  # type: ignore[union-attr]
    for page in ("plan.md", "findings.md"):
        text = " ".join((ROOT / "docs" / page).read_text().split())
        assert f"{times} times" in text
        assert f"{same} of {cases} cases" in text or (f"over {cases} cases" in text and f"in {same} of them" in text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--weights", "nobody"), "--weights nobody: No such file or directory"),
        (("--weights", "prefill"), "--weights prefill: counts none of M=1, 8"),
        (("--today", "nobody"), "--today nobody: it is not among the arms that are measured"),
        (("--today", "samebits[*]"), "--today samebits[*]: it is not among the arms that are measured"),
        (("--today", "samebits[4rows]"), "--today samebits[4rows]: a search may leave it out; name it in --arm too"),
        (("--arm", "torch", "--today", "samebits"), "--today samebits: it is not among the arms that are measured"),
        (("--budget", "1e9"), "--budget 1e+09: expected seconds from 0 on, below 1,000,000"),
    ],
)
def test_a_mistake_in_a_word_is_told_before_anything_is_measured(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    case = ("--op", "linear", "--shapes", "16,96", "--dtype", "fp32", "--batch", "1,8")
    refused = kernels_bench("plan", *case, "--run", tmp_path / "run", *words)
    assert (refused.status, refused.out) == (2, "")
    assert said in refused.err
    assert not (tmp_path / "run").exists()


def test_all_candidates_of_an_arm_are_no_kernel_that_is_used_today(measured: tuple[Path, str]) -> None:
    refused = kernels_bench("plan", "--run", measured[0] / "run", "--today", "few[*]")
    assert refused.status == 2
    assert "--today few[*]: the run has none" in refused.err


def test_what_goes_on_with_a_plan_chooses_by_the_same_weights(measured: tuple[Path, str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(measured[0] / "run", run)
    lines = (run / "records.jsonl").read_text().splitlines(keepends=True)
    last = max(place for place, line in enumerate(lines) if json.loads(line)["kind"] == "timing")
    (run / "records.jsonl").write_text("".join(lines[:last]))
    words = ("--weights", "decode", "--today", "few", "--out", tmp_path / "p.json")
    unfinished = kernels_bench("plan", "--run", run, *words)
    assert f"plan --resume {run} --weights decode --today few\n" in unfinished.err
    refused = kernels_bench("plan", "--resume", run, "--weights", "nobody")
    assert refused.status == 2
    assert "--weights nobody: No such file or directory" in refused.err
    assert (run / "records.jsonl").read_text() == "".join(lines[:last])


@pytest.mark.parametrize("target", ["--out", "--html"])
def test_a_full_disk_takes_the_file_and_not_the_answer(measured: tuple[Path, str], target: str) -> None:
    done = kernels_bench("plan", "--run", measured[0] / "run", target, "/dev/full")
    assert done.status == 3
    assert "cannot write /dev/full: No space left on device" in done.err
    assert "kernels of the same bits at every M in 1 of 1 cases" in done.out
