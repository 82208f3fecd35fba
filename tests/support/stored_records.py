"""Records with everything that is hard to store: NaN, infinities, quotes and line breaks."""

from __future__ import annotations

import math

from kernels_bench.records.cases import Case, Device, Precision, Shape
from kernels_bench.records.catalogue import ArmInfo
from kernels_bench.records.manifest import (
    Manifest,
)
from kernels_bench.records.results import (
    Accuracy,
    BatchRef,
    Counterexample,
    RelationResult,
    Samples,
    SampleSummary,
    Timing,
    Verification,
)
from kernels_bench.records.selection import Selection
from profiles.instruments.environment import read_environment

CASE = Case(
    arm="samebits",
    operator="mm",
    shape=Shape(label="qwen3-8b/o_proj", n=4096, k=4096),
    precision=Precision.parse("bf16:fp32"),
)


def counterexample(expected: float, got: float) -> Counterexample:
    return Counterexample(
        relation="neighbour_content",
        reference=BatchRef(spec="first:512", size=512, launch="eager", position=3),
        company=BatchRef(spec="nan:16:1", size=16, launch="graph", position=5),
        row=3,
        output=0,
        index=17,
        expected=expected,
        got=got,
        expected_bits="0x3f800000",
        got_bits="0x7fc00001",
        ulp=None,
        max_ulp=4,
        elements=2,
        rows=1,
        rows_compared=12,
        command="python -m kernels_bench reproduce --op mm --plugin 'my kernels.py'",
    )


def verification(case: Case = CASE, got: float = math.nan, worst: float = math.inf) -> Verification:
    return Verification(
        case=case,
        status="measured",
        wrong='row 3: nan where float64 gives 1 — "µs"\nsecond line',
        relations=(
            RelationResult(relation="repeat", status="held", companies=12, rows=1599),
            RelationResult(
                relation="neighbour_content",
                status="broken",
                companies=40,
                rows=8000,
                broken=("shuffled:1",),
                counterexample=counterexample(-math.inf, got),
            ),
            RelationResult(relation="graph", status="unsupported", reason="needs a CUDA device"),
        ),
        accuracy=Accuracy(worst=worst, row=3, company="first:512", index=17, expected=1.0, got=got, rows=512),
        digests={1: "c6b936fccff541c69697297b5e695371", 4096: "795f5d85b3fbe770c7cb9da020badefa"},
        universe=4096,
        seconds=1.25,
    )


def timing(m: int = 16, case: Case = CASE) -> Timing:
    summary = SampleSummary(
        median_us=12.5, p10_us=12.25, p90_us=math.inf, error=math.inf, samples=3, slowed=1, warnings=("throttled",)
    )
    samples = Samples(us=(12.25, 12.5, 1e300), clock_mhz=(1980.0, 1980.0, 1755.0), calls=4, method="graph")
    return Timing(
        case=case,
        m=m,
        status="measured",
        warm=summary,
        cold=summary,
        warm_samples=samples,
        cold_samples=samples,
        bytes_moved=1 << 40,
        operations=1 << 60,
        throttle_reasons=("sw_power_cap",),
        power_w=612.5,
        temperature_c=61.0,
        wall_ms=48.5,
        compile_ms=0.1 + 0.2,
    )


def manifest() -> Manifest:
    arm = ArmInfo(name="samebits", claims=True, summary="", environment={"A": "1"}, unavailable="", plugin="my.py")
    return Manifest(
        created="2026-11-22T05:50:00Z",
        command="python -m kernels_bench --op mm",
        selection=Selection(op=("mm",), batch=(1, 16), seed=-3, plugin=("my.py",), timeout_s=0.5),
        device=Device(type="cpu", name="AMD EPYC"),
        arms=(arm,),
        planned=8,
        environment=read_environment(),
    )
