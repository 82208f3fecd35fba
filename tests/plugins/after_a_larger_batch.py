"""A kernel to which it matters what was called before: the planted fault of this name."""

from kernels_bench.arms import Arm
from kernels_bench.faults import faults

ARM = Arm(name="planted", kernels=lambda: {"mm": faults()["after_a_larger_batch"].make()})
