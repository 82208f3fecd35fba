"""The samebits arm on the CPU, and the contract that it shares with the Triton one.

`GemmContract` and `RowsContract` are the promises; test_samebits_triton.py holds the Triton kernels to them.
"""

from types import ModuleType
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from kernels_bench.arms.samebits import cpu
from support.samebits_contracts import GemmContract, RowsContract, assert_same_bits


class TestCpuGemm(GemmContract):
    ops: ClassVar[ModuleType] = cpu

    @pytest.mark.parametrize("threads", [1, 3])
    def test_place_does_not_show_on_other_threads(self, threads: int) -> None:
        """MKL shares columns out among threads, and picks its kernel by the share."""
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            self.test_place_does_not_show(513, 100)
        finally:
            torch.set_num_threads(before)

    def test_alignment_of_the_weight_does_not_show(self) -> None:
        a, flat = self.randn(5, 130), self.randn(130 * 90 + 1)
        b = flat[1:].view(130, 90)
        assert_same_bits(cpu.mm(a, b), cpu.mm(a, b.clone()))


class TestCpuRows(RowsContract):
    ops: ClassVar[ModuleType] = cpu

    def described_sum(self, x: Tensor) -> Tensor:
        """Fold the right half onto the left."""
        while x.shape[1] > 1:
            half = (x.shape[1] + 1) // 2
            x = torch.nn.functional.pad(x, (0, 2 * half - x.shape[1])).unflatten(1, (2, half)).sum(1)
        return x[:, 0]
