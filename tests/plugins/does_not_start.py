"""An arm that imports and then cannot give its kernels."""

from __future__ import annotations

from collections.abc import Mapping

from kernels_bench.arms import Arm, Kernel


def kernels() -> Mapping[str, Kernel]:
    raise OSError("libfast.so.3 is missing")


ARM = Arm(name="stillborn", kernels=kernels)
