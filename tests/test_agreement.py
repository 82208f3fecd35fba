"""Two runs beside each other: the real baseline against itself and against copies that were changed."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernels_bench.agreement import LEAST_US, agreement, in_words

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
    assert found.environment == found.verdicts == ()
    assert found.digests[0] == found.digests[1] > 1000
    assert len(found.warm) > 100
    assert all(change.share == 0 for change in (*found.warm, *found.cold))


def test_what_was_changed_is_what_differs(slower: Path) -> None:
    found = agreement(BASELINE, slower)
    assert np.allclose([change.share for change in found.warm], 0.1)
    assert all(change.share == 0 for change in found.cold)
    assert min(change.first_us for change in found.warm) >= LEAST_US
    assert [pair[2] for pair in found.verdicts] == ["wrong"]
    assert found.digests[0] - found.digests[1] == 1
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
