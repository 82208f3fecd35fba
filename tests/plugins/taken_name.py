"""A plugin that calls itself as a built-in arm does."""

from kernels_bench.arms import Arm

ARM = Arm(name="torch", kernels=dict)
