"""Arms by device, their environments, and whether their engines fit beside each other."""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from e2e.workload.arms import check_engine, check_room, cores_of_ranks, default_arms, unsupported
from e2e.workload.arms import environment as arm_environment
from e2e.workload.options import ARMS, ArmName, Options, OptionsError
from kernels_bench.records.cases import Device
from kernels_bench.workers.process import WorkerError

CPU = Device(type="cpu", name="a CPU")
NPU = Device(type="npu", name="Ascend910B1", uuid="NPU-0")
GPU = Device(type="cuda", name="NVIDIA H100", capability=(9, 0), uuid="u")


@pytest.mark.parametrize(
    ("changes", "arms", "device", "fits"),
    [
        ({"interleave": True}, ARMS[:2], GPU, True),
        ({"interleave": True}, ARMS[:3], GPU, False),
        ({"interleave": True, "gpu_memory_utilization": 0.3}, ARMS[:3], GPU, True),
        ({"interleave": True}, ARMS[:3], CPU, True),
        ({"interleave": True}, ARMS[:3], NPU, False),
        ({}, ARMS[:3], GPU, True),
        ({"interleave": True, "gpu_memory_utilization": 0.8}, ("baseline", "server"), GPU, True),
    ],
)
def test_engines_that_are_up_together_have_to_fit(
    changes: dict[str, Any], arms: tuple[ArmName, ...], device: Device, fits: bool
) -> None:
    refused = pytest.raises(OptionsError, match=r"--gpu-memory-utilization 0.4: .* 3 engines .* at most 0.3$")
    with nullcontext() if fits else refused:
        check_room(Options(**changes), arms, device)


def test_arms_by_device_and_their_environments(tmp_path: Path) -> None:
    assert default_arms(GPU) == ("baseline", "batch-invariant")
    assert default_arms(CPU) == ("baseline", "serial")
    found = {arm: arm_environment(arm, tmp_path, GPU) for arm in ARMS if arm != "server"}
    assert {arm: e["VLLM_BATCH_INVARIANT"] for arm, e in found.items()} == {
        "baseline": "0",
        "batch-invariant": "1",
        "planned": "1",
        "serial": "0",
    }
    assert {arm: e["SAMEBITS_PLAN"] for arm, e in found.items() if e["SAMEBITS_PLAN"]} == {"planned": "default"}
    assert arm_environment("planned", tmp_path, GPU, "/a/plan.json")["SAMEBITS_PLAN"] == "/a/plan.json"
    assert arm_environment("planned", tmp_path, CPU)["VLLM_BATCH_INVARIANT"] == "0"
    for cache in ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        assert len({e[cache] for e in found.values()}) == 4


def test_an_npu_is_known_by_its_platform_and_gets_what_vllm_ascend_sets(tmp_path: Path) -> None:
    assert default_arms(NPU) == ("baseline", "batch-invariant")
    assert unsupported("batch-invariant", NPU) is None
    assert "GPUs and CPUs" in str(unsupported("planned", NPU))
    baseline, invariant = (arm_environment(arm, tmp_path, NPU) for arm in default_arms(NPU))
    assert baseline["VLLM_BATCH_INVARIANT"] == "0"
    assert not {"HCCL_DETERMINISTIC", "LCCL_DETERMINISTIC", "VLLM_CPU_KVCACHE_SPACE"} & {*baseline}
    sets = {"VLLM_BATCH_INVARIANT": "1", "HCCL_DETERMINISTIC": "strict", "LCCL_DETERMINISTIC": "1"}
    assert {name: invariant[name] for name in sets} == sets
    assert "HCCL_DETERMINISTIC" not in arm_environment("batch-invariant", tmp_path, GPU)


@pytest.mark.skipif(importlib.util.find_spec("vllm_ascend") is not None, reason="vllm-ascend is installed")
def test_on_an_npu_vllm_alone_is_not_enough() -> None:
    with pytest.raises(WorkerError, match=r"docs/ascend\.md"):
        check_engine(NPU)


def test_ranks_on_a_cpu_have_cores_of_their_own_as_far_as_there_are_any() -> None:
    assert cores_of_ranks(2, [0, 1, 2, 3, 5]) == "0,2,5|1,3"
    assert cores_of_ranks(3, [4, 6]) == "4|6|4"
    assert "VLLM_CPU_OMP_THREADS_BIND" in arm_environment("baseline", Path(), CPU, tp_size=2)
    assert "VLLM_CPU_OMP_THREADS_BIND" not in arm_environment("baseline", Path(), CPU)
