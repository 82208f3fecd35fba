"""vllm-ascend's arms on an NPU, as far as they can be seen without one: what they ask for, and of whom."""

import importlib.util
from collections.abc import Mapping

import pytest
import torch

from kernels_bench.arms import arms
from kernels_bench.arms.ascend import calls
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.records.cases import Device

NPU = Device(type="npu", name="Ascend910B1")
OURS = ("ascend", "ascend-default")
installed = importlib.util.find_spec("torch_npu") is not None


@pytest.mark.parametrize("name", OURS)
def test_elsewhere_an_arm_says_what_it_lacks(name: str) -> None:
    arm = arms()[name]
    for device in (Device(type="cpu", name="a CPU"), Device(type="cuda", name="H100", capability=(9, 0))):
        assert "need an Ascend NPU" in str(arm.unavailable(device))
    if not installed:
        assert "pip install torch-npu" in str(arm.unavailable(NPU))


def test_the_mode_is_on_in_one_process_and_off_in_the_other() -> None:
    on, off = (arms()[name].environment for name in OURS)
    assert on == {"VLLM_BATCH_INVARIANT": "1", "HCCL_DETERMINISTIC": "strict", "LCCL_DETERMINISTIC": "1"}
    assert off["VLLM_BATCH_INVARIANT"] == "0"


def test_of_other_arms_those_that_need_a_gpu_say_so_on_an_npu() -> None:
    reasons: Mapping[str, str | None] = {name: arm.unavailable(NPU) for name, arm in arms().items()}
    usable = {name for name, reason in reasons.items() if reason is None}
    assert usable == ({"torch", "ascend-default"} if installed else {"torch"})


def test_calls_of_torch_give_what_torchs_own_arm_gives() -> None:
    ours, torchs = calls.kernels(), arms()["torch"].kernels()
    x, w, bias = torch.randn(3, 8), torch.randn(5, 8), torch.randn(5)
    assert set(ours) == set(calls.OPERATORS)
    f32 = torch.float32
    assert torch.equal(ours["linear_bias"](x, w, bias), torchs["linear_bias"](x, w, bias, out_dtype=f32))
    assert torch.equal(ours["addmm"](bias, x, w.t()), torchs["addmm"](bias, x, w.t(), out_dtype=f32))
    assert torch.equal(ours["softmax"](x), torchs["softmax"](x, out_dtype=f32))


def test_attention_is_told_where_queries_end_and_how_many_keys_there_are() -> None:
    """As vllm-ascend's own backend tells it: where queries end, how many keys there are, heads side by side."""
    lengths = torch.tensor([[1, 5], [3, 7]])
    batch = PagedBatch(
        cu_seqlens_q=torch.tensor([0, 1, 4], dtype=torch.int32),
        seqused_k=lengths[:, 1].int(),
        block_table=torch.tensor([[0, 1], [2, 3]], dtype=torch.int32),
        lengths=lengths,
        scale=0.5,
    )
    cache = torch.zeros(4, 128, 2, 16)
    told = calls._attention_arguments(torch.zeros(4, 8, 16), cache, cache, batch)
    assert (told["actual_seq_lengths"], told["actual_seq_lengths_kv"]) == ([1, 4], [5, 7])
    assert told["key"].shape == (4, 128, 32)
    assert (told["num_heads"], told["num_key_value_heads"], told["block_size"]) == (8, 2, 128)
    assert told["atten_mask"].dtype is torch.int8
    assert told["atten_mask"][:2, :3].tolist() == [[0, 1, 1], [0, 0, 1]]
