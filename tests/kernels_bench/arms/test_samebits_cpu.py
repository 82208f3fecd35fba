"""The samebits arm on the CPU, and the contract that it shares with the Triton one.

`GemmContract` and `RowsContract` are the promises; test_samebits_triton.py holds the Triton kernels to them.
"""

from types import ModuleType
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from kernels_bench.arms.samebits import cpu, cpu_layers, routed
from support import routed_cases
from support.samebits_contracts import GemmContract, LayersContract, RowsContract, assert_same_bits


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


class TestCpuLayers(LayersContract):
    ops: ClassVar[ModuleType] = cpu_layers

    def test_running_sums_are_the_additions_one_after_the_other(self) -> None:
        x = self.randn(3, 50)
        total, expected = torch.zeros(3, dtype=torch.float64), []
        for column in x.double().t():
            total = total + column
            expected.append(total.float())
        assert_same_bits(cpu_layers.cumsum(x), torch.stack(expected, 1))

    def test_top_k_and_top_p_keep_what_they_name(self) -> None:
        logits = torch.tensor([[0.0, 3.0, 2.0, 1.0], [1.0, 1.0, 0.0, 0.0], [5.0, 0.0, 0.0, 0.0]])
        cut = cpu_layers.top_k_top_p(logits, torch.tensor([2, 1, 4]), torch.tensor([1.0, 1.0, 0.5]))
        inf = float("inf")
        # Of equal logits at the edge of the k largest both stay.
        assert cut.tolist() == [[-inf, 3, 2, -inf], [1, 1, -inf, -inf], [5, -inf, -inf, -inf]]


class TestCpuRouted:
    """Rows that choose experts or an adapter."""

    @pytest.mark.parametrize("text", ["fp32", "bf16"])
    @pytest.mark.parametrize("name", routed_cases.SHAPES)
    def test_rows_keep_their_bits_whoever_chose_what(self, name: str, text: str) -> None:
        kernel = routed.kernels(cpu, cpu, cpu_layers)[name]
        found = routed_cases.verified(name, kernel, text, 65)
        assert found.wrong == ""
        assert found.verdict == "sampled", [result for result in found.relations if result.status != "held"]
        routed_by_neighbours = [one for one in found.relations if one.relation == "neighbour_routing"]
        assert bool(routed_by_neighbours) == (name in ("moe_experts", "lora_shrink", "lora_expand"))

    def test_of_equal_logits_the_first_experts_come_first(self) -> None:
        weights, ids = routed.kernels(cpu, cpu, cpu_layers)["moe_gating"](torch.tensor([[1.0, 2.0, 1.0, 2.0, 1.0]]), 3)
        assert ids.tolist() == [[1, 3, 0]]
        assert weights.sum() == pytest.approx(1.0)
