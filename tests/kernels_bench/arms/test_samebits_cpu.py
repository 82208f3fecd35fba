"""The samebits arm on the CPU, and the contract that it shares with the Triton one.

`GemmContract` and `RowsContract` are the promises; test_samebits_triton.py holds the Triton kernels to them.
"""

from types import ModuleType
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from kernels_bench import check
from kernels_bench.arms.samebits import ARM, RANKS, routed
from kernels_bench.arms.samebits.cpu import gemm, layers, rows, sampling
from kernels_bench.relations.surroundings import AROUND
from support import routed_cases
from support.samebits_contracts import GemmContract, LayersContract, RowsContract, SamplingContract, assert_same_bits


class TestCpuGemm(GemmContract):
    ops: ClassVar[ModuleType] = gemm

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
        assert_same_bits(gemm.mm(a, b), gemm.mm(a, b.clone()))


@pytest.mark.skipif(torch.cuda.is_available(), reason="its kernels are Triton's there")
@pytest.mark.parametrize("name", [name for name in ARM.offers or () if name not in RANKS])
def test_what_a_caller_sets_around_a_kernel_does_not_show(name: str) -> None:
    report = check(ARM.kernels()[name], name, quick=True, relations="surroundings", device="cpu", budget_s=0.0)
    assert report.held, report.summary()
    assert report.batches == 2 * len(AROUND)  # none of them is refused


class TestCpuRows(RowsContract):
    ops: ClassVar[ModuleType] = rows

    def described_sum(self, x: Tensor) -> Tensor:
        """Fold the right half onto the left."""
        while x.shape[1] > 1:
            half = (x.shape[1] + 1) // 2
            x = torch.nn.functional.pad(x, (0, 2 * half - x.shape[1])).unflatten(1, (2, half)).sum(1)
        return x[:, 0]


class TestCpuLayers(LayersContract):
    ops: ClassVar[ModuleType] = layers

    def test_running_sums_are_the_additions_one_after_the_other(self) -> None:
        x = self.randn(3, 50)
        total, expected = torch.zeros(3, dtype=torch.float64), []
        for column in x.double().t():
            total = total + column
            expected.append(total.float())
        assert_same_bits(sampling.cumsum(x), torch.stack(expected, 1))


class TestCpuSampling(SamplingContract):
    ops: ClassVar[ModuleType] = sampling


class TestCpuRouted:
    """Rows that choose experts or an adapter."""

    @pytest.mark.parametrize("text", ["fp32", "bf16"])
    @pytest.mark.parametrize("name", routed_cases.SHAPES)
    def test_rows_keep_their_bits_whoever_chose_what(self, name: str, text: str) -> None:
        kernel = routed.kernels(gemm, rows, layers)[name]
        found = routed_cases.verified(name, kernel, text, 65)
        assert found.wrong == ""
        assert found.verdict == "sampled", [result for result in found.relations if result.status != "held"]
        routed_by_neighbours = [one for one in found.relations if one.relation == "neighbour_routing"]
        assert bool(routed_by_neighbours) == (name in ("moe_experts", "lora_shrink", "lora_expand"))

    def test_of_equal_logits_the_first_experts_come_first(self) -> None:
        weights, ids = routed.kernels(gemm, rows, layers)["moe_gating"](torch.tensor([[1.0, 2.0, 1.0, 2.0, 1.0]]), 3)
        assert ids.tolist() == [[1, 3, 0]]
        assert weights.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("n", "k"), [(259, 513), (64, 100)])
def test_weights_that_are_slices_of_wider_ones_change_no_bit(n: int, k: int, dtype: torch.dtype) -> None:
    made = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(rows, k, generator=made).to(dtype) for rows in (16, n))
    wide = torch.zeros(n, k + 24, dtype=dtype)
    wide[:, 3 : 3 + k] = weight
    assert_same_bits(gemm.linear(x, wide[:, 3 : 3 + k]), gemm.linear(x, weight))
    flat = torch.zeros(n * k + 5, dtype=dtype)[5:].view(n, k).copy_(weight)
    assert_same_bits(gemm.linear(x, flat), gemm.linear(x, weight))
