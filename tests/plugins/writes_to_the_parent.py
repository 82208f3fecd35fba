"""An arm whose kernel writes to the connection that its process's answers take; K chooses what."""

from __future__ import annotations

import os
import struct
import sys
import time

import torch
import torch.nn.functional as F

from kernels_bench.arms import Arm

SAYS = {65: b"hello there", 66: struct.pack("!i", 8) + b"no pickle", 67: struct.pack("!i", 1 << 27), 68: b"\0" * 8}


def mine(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    connection = int(sys.argv[1])
    if x.shape[1] in SAYS:
        os.write(connection, SAYS[x.shape[1]])
    while x.shape[1] == 67:  # a byte at a time, and never all that was announced
        time.sleep(0.05)
        os.write(connection, b"x")
    return F.rms_norm(x, (x.shape[1],), weight, eps)


ARM = Arm(name="writes_to_the_parent", kernels=lambda: {"rms_norm": mine})
