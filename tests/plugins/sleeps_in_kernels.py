"""An arm that takes ten minutes to give its kernels."""

from __future__ import annotations

import time
from collections.abc import Mapping

from kernels_bench.arms import Arm, Kernel


def kernels() -> Mapping[str, Kernel]:
    time.sleep(10**6)
    return {}


ARM = Arm(name="sleeps_in_kernels", kernels=kernels)
