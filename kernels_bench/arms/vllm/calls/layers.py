"""vLLM's CUDA kernels of activations, rotary embeddings and sampling, which it runs with its flag and without.

Each is imported at its first call, so that what an installation lacks costs its own cases and no others.
"""

from __future__ import annotations

from collections.abc import Mapping

from kernels_bench.arms.base import Kernel, Unsupported
from kernels_bench.arms.vllm.installed import loaded
from kernels_bench.device.lazy_torch import torch

GATED = ("silu_and_mul", "gelu_and_mul", "gelu_tanh_and_mul")
OPERATORS = (*GATED, "rotary", "logprobs", "top_k_top_p")

COMPILED_BY_SIZE = ("top_k_top_p",)
"""Operators whose Triton kernel is compiled anew for every vocabulary, which takes half a minute."""


def kernels() -> Mapping[str, Kernel]:
    """Functions of ``torch.ops._C``, which write into a given tensor or in place, and of the sampler.

    The flag is the sampler's own affair: 0.26 sorts below 8 rows and takes a Triton kernel from there on; 0.33 always
    takes the latter.
    """
    return {
        **{name: gated(name) for name in GATED},
        "rotary": rotary,
        "logprobs": logprobs,
        "top_k_top_p": top_k_top_p,
    }


def gated(name: str) -> Kernel:
    """One of ``torch.ops._C`` that writes half as many elements a row."""

    def kernel(x: torch.Tensor) -> torch.Tensor:
        out = x.new_empty(len(x), x.shape[1] // 2)
        getattr(torch.ops._C, name)(out, x)
        return out

    return kernel


def rotary(
    ids: torch.Tensor, q: torch.Tensor, k: torch.Tensor, head_dim: int, cos_sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """In place, halves as in GPT-NeoX.

    Raises:
        Unsupported: heads of the query are no multiple of the keys'.
    """
    if q.shape[1] % k.shape[1]:
        raise Unsupported("vLLM's rotary embedding takes a multiple of the keys' heads for the queries'")
    loaded("_custom_ops", "rotary_embedding")(ids, q, k, head_dim, cos_sin, True)
    return q, k


def logprobs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Of one token a row."""
    found: torch.Tensor = loaded("v1.worker.gpu.sample.logprob", "compute_token_logprobs")(logits, tokens[:, None])
    return found[:, 0]


def top_k_top_p(logits: torch.Tensor, k: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Perhaps in place."""
    found: torch.Tensor = loaded("v1.sample.ops.topk_topp_sampler", "apply_top_k_top_p")(logits, k, p)
    return found
