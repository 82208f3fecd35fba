"""Two runs beside each other: the real baseline against itself and against copies that were changed."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernels_bench.agreement import LEAST_US, agreement, exit_status, in_words

BASELINE = sorted((Path(__file__).parent.parent / "profiles" / "baselines").iterdir())[0]


@pytest.fixture
def slower(tmp_path: Path) -> Path:
    """The baseline with every warm median 10 % longer, one verdict turned and one digest changed."""
    copy = tmp_path / "slower"
    shutil.copytree(BASELINE, copy)
    lines = gzip.decompress((copy / "records.jsonl.gz").read_bytes()).decode().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        if record["kind"] == "timing" and record["warm"] is not None:
            record["warm"]["median_us"] *= 1.1
    first = next(r for r in records if r["kind"] == "verification" and r["status"] == "measured" and not r["wrong"])
    first["wrong"] = "planted"
    first["digests"]["1"] = "0" * 32
    (copy / "records.jsonl.gz").unlink()
    (copy / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return copy


def test_a_run_agrees_with_itself() -> None:
    found = agreement(BASELINE, BASELINE)
    assert found.environment == found.selection == found.verdicts == ()
    assert found.verified[0] > 100
    assert found.verified[1:] == (0, 0)
    assert found.digests is not None
    assert found.digests[0] == found.digests[1] > 1000
    assert exit_status(found) == 0
    assert len(found.warm) > 100
    assert all(change.share == 0 for change in (*found.warm, *found.cold))


def test_what_was_changed_is_what_differs(slower: Path) -> None:
    found = agreement(BASELINE, slower)
    assert np.allclose([change.share for change in found.warm], 0.1)
    assert all(change.share == 0 for change in found.cold)
    assert min(change.first_us for change in found.warm) >= LEAST_US
    assert [pair[2] for pair in found.verdicts] == ["wrong"]
    assert found.digests is not None
    assert found.digests[0] - found.digests[1] == 1
    assert exit_status(found) == 1
    text = "\n".join(in_words(found, worst=1))
    assert "10.00% (median) and 10.00% (95th percentile)" in text
    assert text.count("+10.0%") == 1


def test_a_proof_that_took_too_long_is_no_difference(tmp_path: Path) -> None:
    copy = tmp_path / "proven"
    shutil.copytree(BASELINE, copy)
    lines = gzip.decompress((copy / "records.jsonl.gz").read_bytes()).decode().splitlines()
    records = [json.loads(line) for line in lines]
    kept = [r for r in records if r["kind"] == "verification" and r["status"] == "measured"]
    for record in kept:
        record["order"] = {"status": "proven"}
    (copy / "records.jsonl.gz").unlink()
    (copy / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert agreement(BASELINE, copy).verdicts == ()
    for record in kept:
        record["order"] = {"status": "variant"}
    (copy / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    verdicts = {pair[1:] for pair in agreement(BASELINE, copy).verdicts}
    assert ("sampled", "variant") in verdicts
    assert verdicts <= {("sampled", "variant"), ("proven", "variant")}


def test_the_command_says_so_and_exits_with_1_where_a_verdict_differs(slower: Path) -> None:
    def compare(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kernels_bench", "compare", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=BASELINE.parents[2])

    same, other = compare(str(BASELINE), str(BASELINE)), compare(str(BASELINE), str(slower))
    assert same.returncode == 0, same.stderr
    assert "verdicts: none differ" in same.stdout
    assert other.returncode == 1, other.stderr
    assert ", then wrong" in other.stdout
    assert compare(str(BASELINE), "/nowhere").returncode == 2


def of_arms(arms: set[str], copy: Path, **asked: object) -> Path:
    """The baseline's records of some arms alone, as if it had been asked for otherwise."""
    copy.mkdir()
    manifest = json.loads((BASELINE / "run.json").read_text())
    manifest["selection"] |= asked
    (copy / "run.json").write_text(json.dumps(manifest))
    lines = gzip.decompress((BASELINE / "records.jsonl.gz").read_bytes()).decode().splitlines()
    kept = [line for line in lines if (json.loads(line).get("case") or {}).get("arm") in arms]
    (copy / "records.jsonl").write_text("".join(line + "\n" for line in kept))
    return copy


def test_runs_with_nothing_in_common_cannot_be_compared(tmp_path: Path) -> None:
    found = agreement(of_arms({"torch"}, tmp_path / "torch"), of_arms({"samebits"}, tmp_path / "samebits"))
    assert exit_status(found) == 3
    _, first, second = found.verified
    assert min(first, second) > 50
    cases, last = in_words(found)
    assert cases == f"cases: 0 verified in both runs, {first} in the first alone, {second} in the second alone"
    assert last == "nothing can be compared: no case was verified in both runs"


def test_cases_of_one_run_alone_are_counted(tmp_path: Path) -> None:
    found = agreement(BASELINE, of_arms({"torch"}, tmp_path / "torch"))
    assert exit_status(found) == 0
    assert found.verified[0] > 50
    assert found.verified[1] > 50
    assert found.verified[2] == 0
    assert next(in_words(found)).startswith(f"cases: {found.verified[0]} verified in both runs, {found.verified[1]} in")


def test_other_seeds_are_named_and_their_bits_not_compared(tmp_path: Path) -> None:
    copy = of_arms({"torch"}, tmp_path / "torch", seed=7, op=["mm", "bmm"], timeout_s=3)
    found = agreement(of_arms({"torch"}, tmp_path / "same"), copy)
    assert set(found.selection) == {"--op not given, then mm,bmm", "--seed 0, then 7"}
    assert found.digests is None
    lines = list(in_words(found))
    assert "the selections differ: --seed 0, then 7" in lines
    assert "bits: not compared, since seeds that differ make other data" in lines
    assert exit_status(found) == 0
