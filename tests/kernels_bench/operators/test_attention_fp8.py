"""A KV cache of eight bits: what it holds, the reference, honest arms and wrong ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels_bench.arms import Kernel
from kernels_bench.arms.pytorch.calls.padded_attention import attention as padded_attention
from kernels_bench.arms.samebits.cpu.attention import attention as cpu_attention
from kernels_bench.operators import operators
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.results import Verification
from kernels_bench.relations import Setting, make_batch, relations
from kernels_bench.relations.base import sweep
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.verifier import Verifier

CPU = torch.device("cpu")
SHAPE = Shape(label="test", heads=4, kv_heads=2, k=16, page=16, tokens=65)
COUNT = 5


def subject(mode: str, kernel: Kernel, text: str = "bf16") -> KernelUnderTest:
    name = f"attention_fp8_{mode}"
    case = Case(arm="planted", operator=name, shape=SHAPE, precision=Precision.parse(text))
    return KernelUnderTest(case, operators()[name], kernel, seed=0, universe=COUNT, device=CPU)


def verify(mode: str, kernel: Kernel, text: str, *chosen: str) -> Verification:
    setting = Setting(COUNT, sweep(COUNT), longest=65, page=16)
    return Verifier(subject(mode, kernel, text), 0).verify([relations()[name] for name in chosen], setting, [1])


def of_dequantised(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, batch: Any) -> torch.Tensor:
    """Over caches that are dequantised before in the queries' dtype, which rounds nothing."""
    keys, values = (
        (cache.float() * scale).to(q.dtype) for cache, scale in zip((keys, values), batch.descale, strict=True)
    )
    return cpu_attention(q, keys, values, batch._replace(descale=None))


@pytest.mark.parametrize("text", ["bf16", "fp16"])
def test_to_dequantise_before_gives_the_same_bits_as_within(text: str) -> None:
    given = subject("mixed", cpu_attention, text), subject("mixed", of_dequantised, text)
    ours, others = (made.run(make_batch("first:5", COUNT))[0] for made in given)
    assert torch.equal(ours, others)
    queries = given[0].tables[0].nan_to_num(7.0)
    assert torch.equal(queries, queries.to(torch.float8_e4m3fn).to(queries.dtype))


@pytest.mark.parametrize("kernel", [cpu_attention, padded_attention])
def test_honest_arms_are_right(kernel: Kernel) -> None:
    for mode in ("decode", "prefill"):
        found = verify(mode, kernel, "bf16")
        assert found.wrong == ""
        assert found.accuracy is not None
        assert found.accuracy.worst > 0


def test_another_scale_is_wrong() -> None:
    def other(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, batch: Any) -> torch.Tensor:
        return cpu_attention(q, keys, values, batch._replace(descale=(batch.descale[0] * 2, batch.descale[1])))

    assert "where float64 gives" in verify("decode", other, "bf16").wrong


def test_samebits_keeps_its_bits_over_eight_bits_wherever_pages_lie_and_whatever_is_beside_them() -> None:
    chosen = ("neighbour_content", "page_placement", "prefill_decode", "unused_memory", "shared_pages", "history")
    found = verify("prefill", cpu_attention, "bf16", *chosen)
    assert found.verdict == "sampled", [one for one in found.relations if one.status != "held"]
    assert len(found.relations) == len(chosen)


def test_bytes_are_one_an_element_of_the_cache() -> None:
    operator = operators()["attention_fp8_decode"].for_length(64)
    assert operator.bytes_moved(SHAPE, Precision.parse("bf16"), 2) == 2 * (64 * 2 * 2 * 16 + 2 * 2 * 4 * 16)
