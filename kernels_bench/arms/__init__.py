"""Who computes it.  One file a provider; each offers ``ARM`` or a tuple ``ARMS``; a user's plugin offers ``ARM``.

To add an arm is to add a file here, or to pass one with ``--plugin``.
"""

from kernels_bench.arms.base import (
    Arm,
    Candidate,
    Kernel,
    PreparedKernel,
    Unsupported,
    WrongResult,
    arms,
    claims_of,
    prepared,
    unit_roundoff,
)
from kernels_bench.arms.plugins import candidate_kernels_of, candidates_of, kernels_of, load_plugin, said_by
from kernels_bench.console.mistakes import PluginError
from kernels_bench.records.cases import Device

__all__ = [
    "Arm", "Candidate", "Device", "Kernel", "PluginError", "PreparedKernel", "Unsupported", "WrongResult",
    "arms", "candidate_kernels_of", "candidates_of", "claims_of", "kernels_of", "load_plugin", "prepared", "said_by",
    "unit_roundoff",
]  # fmt: skip
