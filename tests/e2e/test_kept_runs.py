"""The runs that this repository keeps."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from pathlib import Path

import pytest

from e2e.records import FORMAT, read_state
from e2e.report.speeds import on_gpu, overhead, paired_overheads, price, speeds, verdicts
from e2e.workload.options import ArmName
from e2e.workload.trials import STAGGERED
from profiles.analysis.kernels.families import family
from profiles.trace.model import Kernel
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


def test_where_the_time_of_8_sequences_goes_is_what_the_findings_say() -> None:
    ms: dict[tuple[str, str], float] = defaultdict(float)
    norms: dict[str, list[float]] = {"baseline": [0, 0], "planned": [0, 0]}
    with (ALGORITHMS / "kernels-of-8-sequences.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            arm, took = row["range"].split("/")[1], float(row["total_ns"]) / 1e6
            kind = "GEMM" if row["kernel"] == "_tile_kernel" else family(Kernel(row["kernel"], row["full_name"]))
            ms[arm, kind] += took
            ms[arm, "all"] += took
            if "fused_add_rms_norm" in row["kernel"]:
                norms[arm][0] += took * 1000
                norms[arm][1] += int(row["instances"])
    more = {kind: ms["planned", kind] - ms["baseline", kind] for kind in ("GEMM", "normalisation", "attention")}
    each = {arm: took / times for arm, (took, times) in norms.items()}
    page = " ".join((ROOT / "docs" / "findings.md").read_text(encoding="utf-8").split())
    assert f"{ms['planned', 'all']:.0f} ms with the plan and {ms['baseline', 'all']:.0f} without" in page
    assert f"linears take {-more['GEMM']:.1f} ms less; norms take {more['normalisation']:.1f} ms more" in page
    assert f"takes {each['planned']:.1f} µs where the compiler's takes {each['baseline']:.1f}" in page
    assert f"in batch-invariant mode, {more['attention']:.1f} ms more" in page


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
