"""Our Triton GEMM as somebody else's, which runs wherever Triton does: without a GPU under its interpreter."""

from collections.abc import Mapping
from typing import Any

from kernels_bench.arms import Arm


def kernels() -> Mapping[str, Any]:
    """Imported where it runs, since it brings Triton."""
    from kernels_bench.arms.samebits.triton import gemm as triton_gemm

    return {"mm": triton_gemm.mm}


ARM = Arm(name="triton-mm", claims=True, kernels=kernels)
