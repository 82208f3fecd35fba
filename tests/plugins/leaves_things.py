"""An arm whose kernel is right, and leaves processes in sessions of their own and files in the temporary directory."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import torch
import torch.nn.functional as F

from kernels_bench.arms import Arm

INNER = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)"
_left: set[int] = set()


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    k = x.shape[1]
    if k not in _left:  # once a case
        _left.add(k)
        tempfile.mkdtemp()
        # Its parent ends at once, so that nobody has it any more.
        subprocess.run([sys.executable, "-c", INNER], check=True, start_new_session=True)
    return F.rms_norm(x, (k,), weight, eps)


ARM = Arm(name="leaves_things", kernels=lambda: {"rms_norm": rms_norm}, claims=False)
