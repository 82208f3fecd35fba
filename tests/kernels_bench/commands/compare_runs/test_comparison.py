"""Two runs beside each other: the real baseline against itself and against copies that were changed."""

import gzip
import json
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.commands.compare_runs.comparison import LEAST_US, RunComparison, compare_runs
from kernels_bench.commands.compare_runs.gate import (
    KINDS,
    USUALLY,
    Gate,
    Kind,
    exit_status,
    failures,
    in_words,
    read_gate,
)
from kernels_bench.console.errors import UsageError
from kernels_bench.console.printing import fitted
from kernels_bench.console.terminal import UNBROKEN
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.latest_records import latest_records
from kernels_bench.records.manifest import read_records
from support import BASELINES
from support.processes import completed

BASELINE = sorted(BASELINES.iterdir())[0]
USUAL = read_gate(USUALLY)
MM = Case(arm="a", operator="mm", shape=Shape(label="s", n=8, k=8), precision=Precision.parse("bf16"))


SOME = ("mm", "rms_norm", "softmax", "fused_add_rms_norm")
"""Operators of the runs that are changed."""


@cache
def lines_without_samples() -> tuple[str, ...]:
    """Some of the baseline's records, without the raw samples, which no comparison reads."""
    lines = gzip.decompress((BASELINE / "records.jsonl.gz").read_bytes()).decode().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        if record["kind"] == "timing":
            record["warm_samples"] = record["cold_samples"] = None
    return tuple(json.dumps(record) for record in records if record.get("case", {}).get("operator", "mm") in SOME)


def changed(to: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Path:
    """A copy of the baseline with other records."""
    shutil.copytree(BASELINE, to, ignore=shutil.ignore_patterns("records.jsonl.gz"))
    kept = change([json.loads(line) for line in lines_without_samples()])
    (to / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in kept))
    return to


@cache
def _place() -> TemporaryDirectory[str]:
    return TemporaryDirectory()


@cache
def light() -> Path:
    """Some of the baseline without the raw samples, which is read in a tenth of the time."""
    return changed(Path(_place().name) / "light", lambda records: records)


def judged(records: list[dict[str, Any]]) -> dict[str, Any]:
    """A case of a kernel that kept its bits."""
    return next(
        r
        for r in records
        if r["kind"] == "verification" and r["relations"] and all(one["status"] == "held" for one in r["relations"])
    )


def judged_key() -> str:
    """The key of that case."""
    found = latest_records(read_records(light())).verifications.values()
    return next(v.case.key for v in found if v.relations and all(r.status == "held" for r in v.relations))


@pytest.fixture
def slower(tmp_path: Path) -> Path:
    """The baseline with every warm median 10 % longer, one verdict turned and one digest changed."""

    def change(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for record in records:
            if record["kind"] == "timing" and record["warm"] is not None:
                record["warm"]["median_us"] *= 1.1
        first = judged(records)
        first["wrong"] = "planted"
        first["digests"]["1"] = "0" * 32
        return records

    return changed(tmp_path / "slower", change)


def test_a_run_agrees_with_itself() -> None:
    found = compare_runs(BASELINE, BASELINE)
    assert (found.environment, found.selection, found.verdicts) == ((), (), ())
    assert found.verified[0] > 100
    assert found.verified[1:] == (0, 0)
    assert found.digests is not None
    assert found.digests[0] == found.digests[1] > 1000
    assert found.missing == ()
    assert {one.moved for one in found.speeds} == {"same"}
    assert exit_status(found, USUAL) == exit_status(found, read_gate("bits,slower=0%")) == 0
    assert len(found.warm) > 100
    assert all(change.share == 0 for change in (*found.warm, *found.cold))


def test_what_was_changed_is_what_differs(slower: Path) -> None:
    found = compare_runs(light(), slower)
    assert np.allclose([change.share for change in found.warm], 0.1)
    assert all(change.share == 0 for change in found.cold)
    assert min(change.first_us for change in found.warm) >= LEAST_US
    assert [(change.second, change.worse) for change in found.verdicts] == [("wrong", True)]
    assert found.digests is not None
    assert found.digests[0] - found.digests[1] == 1
    assert exit_status(found, USUAL) == 1
    text = "\n".join(in_words(found, USUAL, worst=1))
    assert "10.00% (median) and 10.00% (95th percentile)" in text
    assert text.count("  +10.0% ") == text.count("  slow +10.0% ") == 1
    last = text.splitlines()[-1]
    assert last.startswith("in short: 1 verdict for the worse; 1 output with other bits; ")
    assert last.endswith(" cases slower by 3 % or more (exit status 1)")
    several = read_gate("slower=9%,verdict-worse")
    assert len(list(failures(found, several))) == 2
    assert exit_status(found, read_gate("slower=15%")) == exit_status(found, read_gate("missing")) == 0


@pytest.mark.parametrize("width", [80, 100, 160])
def test_on_a_terminal_lines_end_between_words_and_nothing_is_lost(width: int) -> None:
    lines = [*in_words(compare_runs(light(), light()), USUAL), "  python -m kernels_bench " + "--op mm " * 40]
    shown = list(fitted(lines, width))
    assert all(len(line) <= width for line in shown[:-1])
    assert shown[-1] == lines[-1]
    assert " ".join(shown).split() == " ".join(lines).split()
    assert list(fitted(lines, UNBROKEN)) == lines


def worst_case(found: RunComparison) -> str:
    """What the run is refused for, if for one thing."""
    (text,) = failures(found, USUAL)
    return text


def test_bits_that_changed_are_no_agreement_though_every_verdict_is_the_same(tmp_path: Path) -> None:
    def change(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        digests = judged(records)["digests"]
        digests |= dict.fromkeys(digests, "f" * 32)
        return records

    found = compare_runs(light(), changed(tmp_path / "other", change))
    assert found.verdicts == ()
    assert "with other bits" in worst_case(found)
    changed_key = judged_key()
    assert all(name.startswith(f"{changed_key} M=") for name in found.other_bits)
    assert f"  {found.other_bits[0]}" in list(in_words(found, USUAL))
    assert exit_status(found, USUAL) == 1
    assert exit_status(found, read_gate("verdict-worse,missing,slower=1%")) == 0


@pytest.mark.parametrize("then", ["gone", "failed", "unsupported", "skipped"])
def test_a_case_that_is_judged_no_more_is_missing(tmp_path: Path, then: str) -> None:
    def change(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        case = judged(records)
        if then == "gone":
            return [r for r in records if r.get("case") != case["case"]]
        for record in records:
            if record.get("case") == case["case"]:
                record |= {"status": "skipped" if record["kind"] == "timing" else then, "reason": "no memory"}
        return records

    found = compare_runs(light(), changed(tmp_path / "other", change))
    assert worst_case(found) == "1 result missing"
    assert exit_status(found, USUAL) == 1
    shown = "\n".join(in_words(found, USUAL))
    assert ("then not verified" if then == "gone" else f"then {then} (no memory)") in shown
    back = compare_runs(tmp_path / "other", light())
    assert exit_status(back, USUAL) == 0, "what was gained is no failure"


def test_a_relation_an_m_or_a_timing_that_was_left_out_is_missing(tmp_path: Path) -> None:
    def sized(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for one in judged(records)["relations"]:
            one["sizes"] = [1, 16, 17]
        return records

    def fewer(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        case = judged(sized(records))
        *case["relations"], last = case["relations"]
        assert last["status"] == "held"
        case["relations"][0]["sizes"] = [1, 17]
        lost = next(r for r in records if r["kind"] == "timing" and r["case"] == case["case"])
        return [record for record in records if record is not lost]

    one, other = changed(tmp_path / "one", sized), changed(tmp_path / "other", fewer)
    found = compare_runs(one, other)
    assert len(found.missing) == 3
    assert any(line.endswith("was examined at M=16, then not") for line in found.missing)
    assert any(line.endswith("was examined, then not") for line in found.missing)
    assert any(line.endswith("timed, then not") for line in found.missing)
    assert worst_case(found) == "3 results missing"
    assert list(failures(compare_runs(other, one), USUAL)) == []


@pytest.mark.parametrize("lost", ["cold", "digest", "sizes"])
def test_a_part_of_a_result_that_is_gone_is_missing(tmp_path: Path, lost: str) -> None:
    def sized(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for one in judged(records)["relations"]:
            one["sizes"] = [1, 16, 17]
        return records

    def without(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        case = judged(sized(records))
        if lost == "digest":
            del case["digests"]["1"]
        elif lost == "sizes":
            case["relations"][0]["sizes"] = []
        else:
            timing = next(r for r in records if r["kind"] == "timing" and r["cold"] and r["case"] == case["case"])
            timing["cold"] = None
        return records

    one, other = changed(tmp_path / "one", sized), changed(tmp_path / "other", without)
    assert worst_case(agreed := compare_runs(one, other)) == "1 result missing"
    assert agreed.verdicts == ()
    assert exit_status(compare_runs(other, one), USUAL) == 0


def test_a_claim_that_was_withdrawn_is_missing(tmp_path: Path) -> None:
    other = changed(tmp_path / "other", lambda records: records)
    manifest = json.loads((other / "run.json").read_text())
    claiming = next(arm for arm in manifest["arms"] if arm["claims"] is True)
    claiming["claims"] = ["repeat"]
    (other / "run.json").write_text(json.dumps(manifest))
    (line,) = compare_runs(light(), other).missing
    assert line.startswith(f"{claiming['name']}: claimed batch_size, position")
    assert compare_runs(other, light()).missing == ()


def test_what_became_better_is_no_failure(slower: Path) -> None:
    found = compare_runs(slower, light())
    assert [(change.first, change.worse) for change in found.verdicts] == [("wrong", False)]
    assert exit_status(found, read_gate("verdict-worse,missing,slower=1%")) == 0


@pytest.mark.parametrize(("claims", "status"), [(True, 1), (["graph"], 0)])
def test_another_claimed_relation_broken_is_worse_though_the_verdict_is_the_same_word(
    tmp_path: Path, claims: bool | list[str], status: int
) -> None:
    def breaking(*names: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
        def change(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
            for one in judged(records)["relations"]:
                one["status"] = "broken" if one["relation"] in names else "held"
            return records

        return change

    one = changed(tmp_path / "one", breaking("position"))
    other = changed(tmp_path / "other", breaking("position", "batch_size"))
    for run in (one, other):
        manifest = json.loads((run / "run.json").read_text())
        for arm in manifest["arms"]:
            arm["claims"] = claims
        (run / "run.json").write_text(json.dumps(manifest))
    found = compare_runs(one, other)
    assert exit_status(found, USUAL) == status
    assert [change.second for change in found.verdicts] == ["variant in batch_size too"] * status
    assert exit_status(compare_runs(other, one), USUAL) == 0


def test_a_case_that_became_slower_is_refused_and_named_with_the_state_in_which_it_did(tmp_path: Path) -> None:
    def change(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        case = judged(records)["case"]
        for record in records:
            if record["kind"] == "timing" and record["case"] == case and record["warm"] is not None:
                record["warm"]["median_us"] *= 1.15
        return records

    other = changed(tmp_path / "other", change)
    found = compare_runs(light(), other)
    assert exit_status(found, USUAL) == 1
    assert worst_case(found) == "1 case slower by 3 % or more"
    assert f"  slow +15.0% {judged_key()} (warm)" in list(in_words(found, USUAL))
    assert exit_status(found, read_gate("slower=20%")) == 0
    assert exit_status(compare_runs(other, light()), USUAL) == 0


def test_what_an_arm_claims_and_does_not_keep_can_be_refused_whatever_was_before() -> None:
    found = compare_runs(light(), light())
    assert found.broken
    assert exit_status(found, read_gate("variant")) == 1
    assert list(failures(found, read_gate("variant"))) == [
        f"{len(found.broken)} cases in which an arm did not keep what it claims"
    ]


@pytest.mark.parametrize("text", ["", ",", "bit", "slower", "slower=3", "slower=-3%", "slower=%", "variant worse"])
def test_what_is_no_gate_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(UsageError, match="slower=3%") as caught:
        read_gate(text)
    assert "\n" not in str(caught.value)


@given(st.lists(st.sampled_from([kind for kind in KINDS if kind != "slower"]), min_size=1), st.floats(0, 999))
def test_a_gate_is_read_as_it_is_written(kinds: list[Kind], share: float) -> None:
    text = ",".join([*kinds, f"slower={share:.2f}%"])
    wanted: list[Kind] = [*kinds, "slower"]
    assert read_gate(text) == Gate(kinds=tuple(dict.fromkeys(wanted)), slower=float(f"{share:.2f}") / 100)
    assert read_gate("none") == Gate(kinds=())


def test_speed_of_other_devices_is_not_judged(tmp_path: Path) -> None:
    other = changed(tmp_path / "other", lambda records: records)
    manifest = json.loads((other / "run.json").read_text())
    manifest["device"]["name"] = "NVIDIA H200"
    (other / "run.json").write_text(json.dumps(manifest))
    found = compare_runs(light(), other)
    assert exit_status(found, USUAL) == 3
    assert list(in_words(found, USUAL))[-1] == (
        "in short: speed cannot be compared without --across: NVIDIA H100 80GB HBM3, then NVIDIA H200 (exit status 3)"
    )
    assert exit_status(found, read_gate("verdict-worse,missing,bits")) == 0
    assert exit_status(compare_runs(light(), other, across=True), USUAL) == 0


def test_settings_and_a_profiler_are_no_speed_of_a_kernel(tmp_path: Path) -> None:
    path = changed(tmp_path / "other", lambda _: []) / "run.json"
    manifest = json.loads(path.read_text())
    manifest["environment"]["variables"] = {"CUDA_LAUNCH_BLOCKING": "1", "CUDA_VISIBLE_DEVICES": "3"}
    manifest["environment"]["profiler"] = "nsys"
    manifest["environment"]["device"]["power_limit_w"] = 350.0
    path.write_text(json.dumps(manifest))
    assert compare_runs(light(), path.parent).apart == (
        "a power limit of 700.0 W, then 350.0 W",
        "CUDA_LAUNCH_BLOCKING not set, then 1",
        "recorded by no profiler, then by nsys",
    )


@pytest.mark.parametrize("cut", [True, False])
def test_an_m_for_which_there_was_no_time_is_none_that_was_left_out(tmp_path: Path, cut: bool) -> None:
    """Those of every run are missed all the same."""

    def sized(*sizes: int, cut: bool) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
        def change(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
            result = judged(records)["relations"][0]
            result["sizes"], result["cut"] = list(sizes), cut
            return records

        return change

    first = changed(tmp_path / "first", sized(1, 16, 21, 100, cut=False))
    second = changed(tmp_path / "second", sized(1, cut=cut))
    gone = [text for text in compare_runs(first, second).missing if "was examined at M=" in text]
    assert [text.partition("M=")[2] for text in gone] == ["16, then not" if cut else "16, 21, 100, then not"]
    assert [text for text in compare_runs(second, first).missing if "was examined at M=" in text] == []


def test_a_proof_that_took_too_long_is_no_difference(tmp_path: Path) -> None:
    def read(status: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
        def change(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
            for record in records:
                if record["kind"] == "verification" and record["status"] == "measured":
                    record["order"] = {"status": status}
            return records

        return change

    assert compare_runs(light(), changed(tmp_path / "proven", read("proven"))).verdicts == ()
    verdicts = {
        (c.first, c.second) for c in compare_runs(light(), changed(tmp_path / "variant", read("variant"))).verdicts
    }
    assert verdicts == {("sampled", "variant")}


def test_the_command_says_so_and_exits_with_1_where_a_verdict_differs(slower: Path, tmp_path: Path) -> None:
    def compare(*words: str) -> subprocess.CompletedProcess[str]:
        return completed("kernels_bench", "compare", *words)

    again = shutil.copytree(light(), tmp_path / "again")
    same, other = compare(str(light()), str(again)), compare(str(light()), str(slower))
    assert same.returncode == 0, same.stderr
    assert "verdicts: none differ" in same.stdout
    assert other.returncode == 1, other.stderr
    assert ", then wrong" in other.stdout
    assert compare(str(light()), "/nowhere").returncode == 2
    assert compare(str(light()), str(slower), "--fail-on", "missing").returncode == 0
    refused = compare(str(light()), str(again), "--fail-on", "bit")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_a_run_is_not_compared_with_itself_by_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(light(), target_is_directory=True)
    for again in (light(), light() / ".." / light().name, tmp_path / "link"):
        done = completed("kernels_bench", "compare", light(), again)
        said = f"kernels_bench: {again}: this is the first run again, in which nothing can differ; name another run\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def of_arms(arms: set[str], copy: Path, **asked: object) -> Path:
    """The baseline's records of some arms alone, as if it had been asked for otherwise."""
    copy.mkdir()
    manifest = json.loads((BASELINE / "run.json").read_text())
    manifest["selection"] |= asked
    (copy / "run.json").write_text(json.dumps(manifest))
    kept = [line for line in lines_without_samples() if (json.loads(line).get("case") or {}).get("arm") in arms]
    (copy / "records.jsonl").write_text("".join(line + "\n" for line in kept))
    return copy


def test_runs_with_nothing_in_common_cannot_be_compared(tmp_path: Path) -> None:
    found = compare_runs(of_arms({"torch"}, tmp_path / "torch"), of_arms({"samebits"}, tmp_path / "samebits"))
    anything = read_gate("verdict-worse,bits,slower=3%")
    assert exit_status(found, anything) == 3
    _, first, second = found.verified
    assert min(first, second) > 20
    cases, last = in_words(found, anything)
    assert cases == f"cases: 0 verified in both runs, {first} in the first alone, {second} in the second alone"
    assert last == "in short: no case was verified in both runs (exit status 3)"
    assert exit_status(found, USUAL) == 1


def test_runs_that_only_timed_are_compared_by_their_times(slower: Path, tmp_path: Path) -> None:
    def timed_alone(run: Path, copy: Path) -> Path:
        shutil.copytree(run, copy)
        lines = (copy / "records.jsonl").read_text().splitlines(keepends=True)
        (copy / "records.jsonl").write_text("".join(line for line in lines if '"kind": "verification"' not in line))
        return copy

    then, now = timed_alone(light(), tmp_path / "then"), timed_alone(slower, tmp_path / "now")
    found = compare_runs(then, now)
    assert found.verified == (0, 0, 0)
    assert found.speeds
    said = list(in_words(found, USUAL))
    assert said[0].startswith("warm medians of at least")
    assert f"speed of {len(found.speeds)} cases: " in "\n".join(said)
    assert said[-1].endswith("no case was verified in both runs (exit status 1)")
    assert exit_status(found, read_gate("slower=20%")) == 0
    assert exit_status(found, read_gate("slower=3%")) == 1
    assert exit_status(found, read_gate("bits,slower=20%")) == 3


def test_cases_of_one_run_alone_are_counted(tmp_path: Path) -> None:
    found = compare_runs(light(), of_arms({"torch"}, tmp_path / "torch"))
    assert exit_status(found, USUAL) == 1
    assert found.verified[0] > 20
    assert found.verified[1] > 20
    assert found.verified[2] == 0
    assert worst_case(found) == f"{len(found.missing)} results missing"
    assert next(in_words(found, USUAL)).startswith(
        f"cases: {found.verified[0]} verified in both runs, {found.verified[1]} in"
    )


def test_bits_of_sequences_of_other_lengths_are_not_compared(tmp_path: Path) -> None:
    def longer(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for record in records:
            if record["kind"] == "verification":
                record["lengths"] = [512]
                record["digests"] = {m: "0" * len(digest) for m, digest in record["digests"].items()}
        return records

    found = compare_runs(light(), changed(tmp_path / "longer", longer))
    assert found.digests == (0, 0)
    assert found.other_bits == ()
    assert any("no output of the same data was digested in both runs" in line for line in in_words(found, USUAL))


@pytest.mark.parametrize(
    ("then", "now", "source", "compared"),
    [
        ("a", "b", "same", False),
        ("a", "b", "other", False),
        ("a", "a", "other", True),
        ("", "a", "other", False),
        ("", "", "other", False),
        ("", "a", "same", True),
    ],
)
def test_bits_of_rows_that_another_samebits_made_are_not_compared(
    tmp_path: Path, then: str, now: str, source: str, compared: bool
) -> None:
    def made(data: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
        def change(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
            first = judged(records)
            first |= {"data": data, "digests": dict.fromkeys(first["digests"], (data or "a") * 32)}
            return [first]

        return change

    old, new = changed(tmp_path / "old", made(then)), changed(tmp_path / "new", made(now))
    manifest = json.loads((new / "run.json").read_text())
    if source == "other":
        manifest["environment"]["source_digest"] = "0" * 16
        (new / "run.json").write_text(json.dumps(manifest))
    found = compare_runs(old, new)
    assert found.digests is not None
    assert (found.digests[0] > 0, found.other_data > 0) == (compared, not compared)
    assert found.other_bits == ()
    lines = list(in_words(found, USUAL))
    assert any("whose rows are others, or may be" in line for line in lines) is not compared


def test_other_seeds_are_named_and_their_bits_not_compared(tmp_path: Path) -> None:
    copy = of_arms({"torch"}, tmp_path / "torch", seed=7, op=["mm", "bmm"], timeout_s=3)
    found = compare_runs(of_arms({"torch"}, tmp_path / "same"), copy)
    assert set(found.selection) == {"--op not given, then mm,bmm", "--seed 0, then 7"}
    assert found.digests is None
    lines = list(in_words(found, USUAL))
    assert "the selections differ: --seed 0, then 7" in lines
    assert "bits: not compared, since seeds that differ make other data" in lines
    assert exit_status(found, USUAL) == 3
    assert exit_status(found, read_gate("verdict-worse,missing,slower=3%")) == 0
