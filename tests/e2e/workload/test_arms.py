"""Arms by device, their environments, and whether their engines fit beside each other."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from e2e.workload.arms import check_room, default_arms
from e2e.workload.arms import environment as arm_environment
from e2e.workload.options import ARMS, ArmName, Options, OptionsError
from kernels_bench.records.cases import Device

CPU = Device(type="cpu", name="a CPU")
GPU = Device(type="cuda", name="NVIDIA H100", capability=(9, 0), uuid="u")


@pytest.mark.parametrize(
    ("changes", "arms", "device", "fits"),
    [
        ({"interleave": True}, ARMS[:2], GPU, True),
        ({"interleave": True}, ARMS[:3], GPU, False),
        ({"interleave": True, "gpu_memory_utilization": 0.3}, ARMS[:3], GPU, True),
        ({"interleave": True}, ARMS[:3], CPU, True),
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
        "serial": "0",
    }
    for cache in ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        assert len({e[cache] for e in found.values()}) == 3
