"""The samebits arm in Triton: natively where there is a GPU, and everywhere under Triton's interpreter.

The interpreter is chosen by a variable that Triton reads when it is imported, and it cannot be left again. So
`test_under_the_interpreter` runs this file once more, in a process of its own.
"""

import os
import subprocess
import sys

import pytest
import torch
from test_samebits_cpu import GemmContract, RowsContract
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
GPU = torch.cuda.is_available()

if INTERPRETED or GPU:
    from kernels_bench.arms.samebits import triton_gemm, triton_rows
else:
    triton_gemm = triton_rows = None

pytest.importorskip("triton")


def native_or_interpreted(cls: type) -> type:
    """Mark a class of tests as one for the GPU, unless this is the interpreter's process."""
    if INTERPRETED:
        return cls
    return pytest.mark.gpu(pytest.mark.skipif(not GPU, reason="no GPU; run under the interpreter instead")(cls))


@native_or_interpreted
class TestTritonGemm(GemmContract):
    ops = triton_gemm
    device = "cpu" if INTERPRETED else "cuda"
    rounds_bf16 = not INTERPRETED


@native_or_interpreted
class TestTritonRows(RowsContract):
    ops = triton_rows
    device = "cpu" if INTERPRETED else "cuda"
    rounds_bf16 = not INTERPRETED

    def described_sum(self, x: Tensor) -> Tensor:
        """Column c goes to lane c mod BLOCK, in ascending order; then lanes in pairs."""
        block = triton_rows.BLOCK.value
        lanes = torch.zeros(len(x), block, device=x.device)
        for columns in x.split(block, dim=1):
            lanes[:, : columns.shape[1]] += columns
        while lanes.shape[1] > 1:
            lanes = lanes[:, 0::2] + lanes[:, 1::2]
        return lanes[:, 0]


@pytest.mark.skipif(INTERPRETED, reason="this is its process")
def test_under_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    child = subprocess.run(
        command,
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stdout + child.stderr
    assert "passed" in child.stdout


@native_or_interpreted
class TestSpecialisation:
    """What the compiler may know of a batch: nothing."""

    @pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
    def test_one_kernel_for_every_m(self) -> None:
        b = torch.randn(96, 80, device="cuda")
        triton_gemm.mm(torch.randn(2, 96, device="cuda"), b)
        compiled = self.compiled()
        for m in (1, 3, 16, 64, 65, 128, 1000):
            triton_gemm.mm(torch.randn(m, 96, device="cuda"), b)
        assert self.compiled() == compiled

    @staticmethod
    def compiled() -> int:
        return sum(len(caches[0]) for caches in triton_gemm._gemm_kernel.device_caches.values())
