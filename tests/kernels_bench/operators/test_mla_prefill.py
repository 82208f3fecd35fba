"""Prefill with latent attention: the reference, honest kernels and wrong ones, and which of them keep their bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels_bench import check
from kernels_bench.arms import Kernel
from kernels_bench.arms.pytorch.calls.padded_attention import packed_attention
from kernels_bench.arms.samebits.cpu.attention import attention
from kernels_bench.arms.samebits.packed import Packed
from kernels_bench.operators import operators
from kernels_bench.relations import make_batch

CPU = torch.device("cpu")
OURS = Packed(attention)
ROWS = 5


def worst(kernel: Kernel, dtype: torch.dtype, kind: str = "unaligned") -> float:
    """Of an honest kernel at most 1."""
    (shape,) = (one for one in operators()["mla_prefill"].shapes if one.label == f"small/{kind}")
    operator = operators()["mla_prefill"].for_shape(shape)
    tables, batch = operator.rows(shape, ROWS, dtype, 0, CPU), make_batch(f"first:{ROWS}", ROWS)
    lines = torch.tensor(operator.lines(batch, ROWS, shape).ids)
    (exact,), (allowed,) = operator.reference_and_tolerance(operator.inputs_of(lines, tables), (), dtype)
    found = kernel(*operator.arguments(operator.gather(batch, ROWS, shape, tables, ()), ()))
    assert found.dtype is dtype
    return float(((found.double() - exact).abs() / allowed).nan_to_num(nan=torch.inf).max())


@pytest.mark.parametrize(("dtype", "kind"), [(torch.bfloat16, "aligned"), (torch.float16, "unaligned")])
@pytest.mark.parametrize("kernel", [OURS, packed_attention])
def test_honest_kernels_are_right(kernel: Kernel, dtype: torch.dtype, kind: str) -> None:
    assert 0 < worst(kernel, dtype, kind) <= 1


def test_every_token_counts_the_tokens_that_it_sees() -> None:
    operator = operators()["mla_prefill"]
    shape = next(one for one in operator.shapes if one.label == "small/aligned")
    # The longest sequence, of 40 tokens, and the shortest, of one.
    assert operator.operations(shape, 2) == 2 * (sum(range(1, 41)) + 1) * 2 * (48 + 32)


def of_one_sequence(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor) -> Any:
    return OURS(q, k, v, cu_seqlens[[0, -1]])


def of_other_heads(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor) -> Any:
    return OURS(q, k.flip(1), v, cu_seqlens)


@pytest.mark.parametrize("kernel", [of_one_sequence, of_other_heads])
def test_wrong_kernels_are_wrong(kernel: Kernel) -> None:
    assert worst(kernel, torch.bfloat16) > 1


def test_the_reference_is_torchs_attention_in_float64() -> None:
    q, k, v = (torch.randn(9, 2, size, dtype=torch.float64) for size in (6, 6, 4))
    operator = operators()["mla_prefill"]
    begins = torch.tensor([0, 4, 9])
    found = operator.reference((q, k, v, begins, torch.arange(9)), ())[0]
    for begin, end in ((0, 4), (4, 9)):
        mine, keys, values = (one[begin:end].transpose(0, 1) for one in (q, k, v))
        expected = torch.nn.functional.scaled_dot_product_attention(mine, keys, values, is_causal=True)
        torch.testing.assert_close(found[begin:end], expected.transpose(0, 1))


def test_our_kernel_keeps_its_bits() -> None:
    looked_at = ("batch_size", "neighbour_content")
    how = {"shapes": "small/unaligned", "dtypes": "bf16", "relations": looked_at, "device": "cpu", "budget_s": 0.2}
    report = check(OURS, "mla_prefill", claims=True, **how)  # type: ignore[arg-type]
    assert report.held, report.summary()
