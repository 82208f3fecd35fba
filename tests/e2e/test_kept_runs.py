"""The runs that this repository keeps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e2e.records import FORMAT, read_state
from e2e.report.speeds import overhead, paired_overheads, speeds, verdicts
from e2e.workload.options import ARMS
from e2e.workload.trials import STAGGERED
from support import BASELINES, ROOT

KEPT = BASELINES / "vllm-e2e"
PAGE = (ROOT / "docs" / "needle-benchmark.md").read_text()


def test_every_kept_run_can_be_recorded_again() -> None:
    script = (BASELINES / "record-vllm-e2e.sh").read_text()
    assert {f"h100-80gb-hbm3-{name}" for name in re.findall(r"^ +\[(.+?)\]=", script, re.MULTILINE)} == {
        kept.name for kept in KEPT.iterdir()
    }


@pytest.mark.parametrize("kept", sorted(KEPT.iterdir()), ids=lambda path: path.name)
def test_kept_runs_are_whole_and_their_page_says_what_they_say(kept: Path) -> None:
    options, ledger = FORMAT.read_manifest(kept).options, read_state(FORMAT.read_records(kept))
    mode = "eager" if options.eager else "compiled"
    (line,) = [one for one in PAGE.splitlines() if one.startswith(f"| `{options.model}` | {options.backend}, {mode} |")]
    told = [cell.strip() for cell in line.strip("|").split("|")][2:]
    found, measured = verdicts(ledger, FORMAT.read_manifest(kept).asked), speeds(ledger)
    assert not any(one.missing for one in found.values())
    for arm, cell in zip(ARMS[:3], told, strict=True):
        assert len([one for one in ledger.trials[arm] if one.trial != STAGGERED]) == options.num_trials
        bits, tokens = ([n > 1 for n in each] for each in (found[arm].distinct_bits, found[arm].distinct_tokens))
        changed = f": {sum(bits)} of {len(bits)}, {sum(tokens)} in tokens" if found[arm].verdict == "variant" else " · "
        assert cell.startswith(found[arm].verdict + changed)
        usual, own = measured["baseline"], measured[arm]
        each = paired_overheads(ledger.trials["baseline"], ledger.trials[arm])
        more = f"{overhead(usual.avg_time, own.avg_time):+.0f} % ({each[0]:+.0f} to {each[-1]:+.0f})"
        assert cell.endswith(f" · {usual.throughput:.0f}" if arm == "baseline" else f" · {more}")
