"""The runs that this repository keeps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e2e.records import FORMAT, read_state
from e2e.report.speeds import on_gpu, overhead, paired_overheads, price, speeds, verdicts
from e2e.workload.options import ArmName
from e2e.workload.trials import STAGGERED
from support import BASELINES, ROOT

KEPT = BASELINES / "vllm-e2e"
PAGE = (ROOT / "docs" / "needle-benchmark.md").read_text()
COMPARED: tuple[ArmName, ...] = ("baseline", "batch-invariant", "serial")
PLANS = ROOT / "profiles" / "plans"
PLANNED, ALGORITHMS = PLANS / "nvidia-h200-qwen3-8b-in-vllm", PLANS / "nvidia-h200-qwen3-8b-cublaslt-in-vllm"


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
    for arm, cell in zip(COMPARED, told, strict=True):
        assert len([one for one in ledger.trials[arm] if one.trial != STAGGERED]) == options.num_trials
        bits, tokens = ([n > 1 for n in each] for each in (found[arm].distinct_bits, found[arm].distinct_tokens))
        changed = f": {sum(bits)} of {len(bits)}, {sum(tokens)} in tokens" if found[arm].verdict == "variant" else " · "
        assert cell.startswith(found[arm].verdict + changed)
        usual, own = measured["baseline"], measured[arm]
        each = paired_overheads(ledger.trials["baseline"], ledger.trials[arm])
        more = f"{overhead(usual.avg_time, own.avg_time):+.0f} % ({each[0]:+.0f} to {each[-1]:+.0f})"
        assert cell.endswith(f" · {usual.throughput:.0f}" if arm == "baseline" else f" · {more}")


def test_what_a_plan_in_vllm_came_to_is_what_the_findings_say() -> None:
    """Verdicts and tokens a second, on the page and in the README's short form."""
    manifest, ledger = FORMAT.read_manifest(PLANNED), read_state(FORMAT.read_records(PLANNED))
    found, measured = verdicts(ledger, manifest.asked), speeds(ledger)
    assert {arm: one.verdict for arm, one in found.items()} == {
        "baseline": "variant",
        "batch-invariant": "invariant",
        "planned": "invariant",
    }
    usual, shipped, planned = (measured[arm].throughput for arm in ("baseline", "batch-invariant", "planned"))
    findings = (ROOT / "docs" / "findings.md").read_text()
    (told,) = re.findall(r"answers ([\d,]+) tokens a second, the default mode\s+([\d,]+) .+? ships ([\d,]+)", findings)
    assert [int(number.replace(",", "")) for number in told] == [round(each) for each in (planned, usual, shipped)]
    readme = (ROOT / "README.md").read_text()
    (slow,) = re.findall(r"runs at ([\d.]+)× of its default mode", readme)
    assert float(slow) == round(shipped / usual, 2)


def test_what_a_plan_of_cublaslts_algorithms_spares_is_what_the_pages_say() -> None:
    """Verdicts, tokens a second and the GPU's time, on the page and in the README's short form."""
    manifest, ledger = FORMAT.read_manifest(ALGORITHMS), read_state(FORMAT.read_records(ALGORITHMS))
    found, measured = verdicts(ledger, manifest.asked), speeds(ledger)
    assert {arm: one.verdict for arm, one in found.items()} == {"baseline": "variant", "planned": "invariant"}
    spared = price(ledger.trials["baseline"], ledger.trials["planned"], on_gpu)
    assert spared is not None
    assert spared.low is not None
    assert spared.high is not None
    least, most = -spared.high, -spared.low
    findings = " ".join((ROOT / "docs" / "findings.md").read_text().split())
    then, now = (f"{measured[arm].throughput:,.0f}" for arm in ("baseline", "planned"))
    assert f"{now} tokens a second came against {then}" in findings
    assert (
        f"The GPU computed between {least:.1f} and {most:.1f} % less with the plan than in the default mode" in findings
    )
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"it takes {least:.0f} to {most:.0f} % less of the GPU's time than the default mode" in readme
