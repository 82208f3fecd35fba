"""Made-up records of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernels_bench.records.cases import Case, Device, Precision, Shape
from kernels_bench.records.results import (
    Accuracy,
    BatchRef,
    Ceiling,
    Counterexample,
    RelationResult,
    Samples,
    SampleSummary,
    Timing,
    Verification,
)
from kernels_bench.report.summary.schema import ArmFact, RunFacts
from profiles.instruments.environment import Environment
from profiles.instruments.telemetry import DeviceFacts

O_PROJ = Shape(label="qwen3-8b/o_proj", n=4096, k=4096)
QKV_PROJ = Shape(label="qwen3-8b/qkv_proj", n=6144, k=4096)
HIDDEN = Shape(label="qwen3-8b/hidden", k=4096)


def case(arm: str = "torch", operator: str = "mm", shape: Shape = O_PROJ, dtype: str = "bf16") -> Case:
    return Case(arm=arm, operator=operator, shape=shape, precision=Precision.parse(dtype))


def company(m: int, spec: str = "", launch: str = "eager") -> BatchRef:
    return BatchRef.model_validate({"spec": spec or f"first:{m}", "size": m, "launch": launch, "position": 0})


def counterexample(m: int = 1, relation: str = "batch_size", **changes: Any) -> Counterexample:
    values: dict[str, Any] = {
        "relation": relation,
        "reference": company(4096),
        "company": company(m),
        "row": 0,
        "output": 0,
        "index": 17,
        "expected": 0.125,
        "got": 0.1259765625,
        "expected_bits": "0x3e00",
        "got_bits": "0x3e01",
        "ulp": 1,
        "max_ulp": 2,
        "elements": 3986,
        "rows": 1,
        "rows_compared": 1,
        "command": (
            "python -m kernels_bench reproduce --op mm --arm torch --shape 4096x4096 --dtype bf16 --seed 0 "
            f"--universe 4096 --relation {relation} --reference first:4096 --batch first:{m} --launch eager"
        ),
    }
    return Counterexample(**(values | changes))


def held(relation: str = "repeat") -> RelationResult:
    return RelationResult(relation=relation, status="held", companies=21, rows=9000)


def broken(m: int = 1, relation: str = "batch_size", **changes: Any) -> RelationResult:
    return RelationResult(
        relation=relation,
        status="broken",
        companies=40,
        rows=60000,
        counterexample=counterexample(m, relation, **changes),
    )


def verified(of: Case, *relations: RelationResult, **changes: Any) -> Verification:
    accuracy = Accuracy(worst=0.3, row=1, company="first:4096", index=0, expected=1.0, got=1.0, rows=4096)
    values: dict[str, Any] = {
        "case": of,
        "status": "measured",
        "relations": relations or (held(),),
        "accuracy": accuracy,
        "digests": {1: "a", 256: "b"},
        "universe": 4096,
    }
    return Verification(**(values | changes))


def known(record: Verification) -> dict[str, Any]:
    """What was found of a case, without how long it took and how far its relations came in the time there was."""
    spent = {"companies", "rows", "sizes", "elements", "power", "cut", "seconds"}
    return record.model_dump(exclude={"seconds": True, "order": True, "relations": {"__all__": spent}})


def ended(of: Case, status: str, reason: str = "because") -> Verification:
    return Verification.model_validate({"case": of, "status": status, "reason": reason})


def measured(us: float, warnings: Sequence[str] = ()) -> SampleSummary:
    return SampleSummary(median_us=us, p10_us=us, p90_us=us, error=0.001, samples=12, warnings=tuple(warnings))


def timed(of: Case, m: int, us: float, cold_us: float | None = None, **changes: Any) -> Timing:
    values: dict[str, Any] = {
        "case": of,
        "m": m,
        "status": "measured",
        "warm": measured(us),
        "cold": measured(us * 1.25 if cold_us is None else cold_us),
        "warm_samples": Samples(us=(us,) * 12, calls=10, method="graph"),
        "cold_samples": Samples(us=(us,) * 12, calls=1, method="graph"),
        "bytes_moved": 2 * (4096 * 4096 + 2 * m * 4096),
        "operations": 2 * m * 4096 * 4096,
    }
    return Timing(**(values | changes))


CEILING = Ceiling(bandwidth_gb_s=3000.0, tflop_s={"bf16": 700.0, "fp16": 690.0, "fp32": 50.0})


ENVIRONMENT = Environment(
    samebits_version="0.1.0",
    source_digest="0123456789abcdef",
    git_commit=None,
    git_dirty=None,
    python_version="CPython 3.12.3",
    os="Linux 6.8",
    machine="x86_64",
    cpu_model="AMD EPYC 9454",
    logical_cores=32,
    usable_cores=16,
    memory_bytes=1 << 37,
    versions={"numpy": "2.4.6", "torch": "2.11.0", "triton": "3.6.0", "vllm": "0.26.1"},
    variables={},
    device=DeviceFacts(
        name="NVIDIA H100 80GB HBM3",
        uuid="GPU-0",
        driver_version="580.95.05",
        cuda_driver_version="13.0",
        max_sm_clock_mhz=1980,
        max_memory_clock_mhz=2619,
        power_limit_w=700.0,
        memory_total_bytes=80 << 30,
    ),
)


def facts(**changes: Any) -> RunFacts:
    values: dict[str, Any] = {
        "device": Device(type="cuda", name="NVIDIA H100 80GB HBM3", capability=(9, 0), uuid="GPU-0"),
        "arms": (
            ArmFact(name="torch", claims=False),
            ArmFact(name="cublas-restricted", claims=True),
            ArmFact(name="vllm", claims=True, provenance="vLLM 0.26.1"),
            ArmFact(name="samebits", claims=True),
        ),
        "directory": "samebits-runs/2026-01-31-120000",
        "environment": ENVIRONMENT,
        "seconds": 212.0,
        "command": "python -m kernels_bench --op mm,rms_norm",
    }
    return RunFacts(**(values | changes))
