"""An arm whose kernels are for an operator that is none."""

import torch

from kernels_bench.arms import Arm

ARM = Arm(name="unknown_operator", kernels=lambda: {"rms_norn": torch.mm})
