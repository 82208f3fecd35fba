"""An arm that waits inside the kernel at K = 66 until a file appears, so that a test can end the run just there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from kernels_bench.arms import Arm


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    gate = Path(os.environ["SAMEBITS_TEST_GATE"])
    if x.shape[1] == 66 and not gate.exists():
        gate.with_suffix(".waiting").touch()
        while not gate.exists():
            time.sleep(0.05)
    return F.rms_norm(x, (x.shape[1],), weight, eps)


ARM = Arm(name="gated", kernels=lambda: {"rms_norm": rms_norm})
