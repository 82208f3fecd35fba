"""vLLM's plugin: inert unless a plan is named, and refused where that cannot be what was meant."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kernels_bench.console.errors import UsageError
from kernels_bench.plan.file import elsewhere
from kernels_bench.planned.places import refuse_elsewhere, refuse_unused
from kernels_bench.planned.use import KernelUse, PlanUse
from profiles.instruments.environment import read_environment
from support.plans import CPU, H100, case, plan
from support.processes import environment

INERT = """
import sys
before = set(sys.modules)
from kernels_bench.planned.plugin import register
register()
print(*sorted(name for name in set(sys.modules) - before if name.partition(".")[0] in {text!r}))
"""
HEAVY = ("torch", "vllm", "pydantic", "triton", "numpy", "profiles")


def test_it_loads_next_to_nothing_where_no_plan_is_named() -> None:
    for variables in ({}, {"SAMEBITS_PLAN": ""}):
        done = subprocess.run(
            [sys.executable, "-c", INERT.replace("{text!r}", repr(HEAVY))],
            env=environment(**variables),
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == ("\n", "")


def test_a_plan_of_another_device_or_of_other_versions_is_refused_unless_forced() -> None:
    now = read_environment()
    made = plan(case((1, "samebits")))
    refuse_elsewhere(made, H100, now, force=False)
    with pytest.raises(UsageError, match=r"device: NVIDIA H100 80GB HBM3 then, NVIDIA H200 now; SAMEBITS_PLAN_FORCE=1"):
        refuse_elsewhere(made, H100.model_copy(update={"name": "NVIDIA H200"}), now, force=False)
    with pytest.raises(UsageError, match=r"device: NVIDIA H100 80GB HBM3 then"):
        refuse_elsewhere(made, CPU, now, force=False)
    newer = now.model_copy(update={"versions": {**now.versions, "torch": "9.9"}})
    with pytest.raises(UsageError, match=r"torch: \S+ then, 9.9 now"):
        refuse_elsewhere(made, H100, newer, force=False)
    refuse_elsewhere(made, CPU, newer, force=True)
    # What an engine sets by itself is no other machine.
    set_otherwise = now.model_copy(update={"variables": {"OMP_NUM_THREADS": "1"}, "usable_cores": 1})
    refuse_elsewhere(made, H100, set_otherwise, force=False)


def test_a_plan_for_a_gpu_holds_beside_another_processor_and_for_other_sources_than_its_kernels() -> None:
    now, made = read_environment(), plan(case((1, "samebits")))
    assert now.kernels_digest
    assert made.environment.kernels_digest == now.kernels_digest
    other_host = {"logical_cores": 64, "cpu_model": "another", "os": "another", "source_digest": "0" * 16}
    moved = now.model_copy(update=other_host)
    refuse_elsewhere(made, H100, moved, force=False)
    set_there = moved.model_copy(update={"variables": {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "1"}})
    assert elsewhere(made, H100, set_there) == ()
    tf32 = moved.model_copy(update={"variables": {"NVIDIA_TF32_OVERRIDE": "1"}})
    assert elsewhere(made, H100, tf32) == ("NVIDIA_TF32_OVERRIDE: none then, 1 now",)
    with pytest.raises(UsageError, match=r"samebits' kernels: .{16} then, 0{16} now"):
        refuse_elsewhere(made, H100, moved.model_copy(update={"kernels_digest": "0" * 16}), force=False)
    # An older plan's kernels are known by all of samebits' sources alone.
    older = made.model_copy(update={"environment": made.environment.model_copy(update={"kernels_digest": ""})})
    refuse_elsewhere(older, H100, now, force=False)
    with pytest.raises(UsageError, match=r"source_digest: .{16} then, 0{16} now"):
        refuse_elsewhere(older, H100, moved, force=False)


def used(calls: int, planned: bool = True, digest: str = "d", key: str = "linear/1x1/bf16") -> PlanUse:
    use = KernelUse(key=key, kernels="samebits at every M", planned=planned, calls=calls)
    return PlanUse(plan="p", digest=digest, vllm="0", linears=1, linears_planned=1, norms=0, uses=(use,))


def test_a_plan_that_nobody_called_is_an_error() -> None:
    refuse_unused(used(1))
    refuse_unused(used(1, planned=False, digest=""))
    with pytest.raises(UsageError, match="without a call"):
        refuse_unused(used(0))
    with pytest.raises(UsageError, match="without a call"):
        refuse_unused(used(1, key="rms_norm/1/bf16"))
    with pytest.raises(UsageError, match=r"has none of the model's shapes; the engine called linear/1x1/bf16"):
        refuse_unused(used(1, planned=False))
