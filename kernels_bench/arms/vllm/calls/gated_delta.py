"""vLLM's Triton kernels of the gated delta rule, flash-linear-attention's, as its layers call them (0.26 to 0.33).

A prefill goes in chunks of 64, whose products and states are rounded to the inputs' dtype, and a decode token by token
in fp32: they add differently. In batch-invariant mode the back end refuses to start, so that no arm claims them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from kernels_bench.arms.base import Kernel, PreparedKernel, Unsupported
from kernels_bench.arms.vllm.installed import loaded
from kernels_bench.device.lazy_torch import torch

OPERATORS = ("gated_delta_step", "gated_delta_rule")
CHUNK = 64
_OPS = "third_party.flash_linear_attention.ops"


class Step(PreparedKernel):
    """``fused_recurrent_gated_delta_rule``, over states in a cache of an engine, whose slot 0 is nobody's."""

    def prepare(self, *arguments: Any) -> Callable[[], Any]:
        """Tensors as of the operator."""
        state, *tokens = arguments
        cache = torch.cat([torch.zeros_like(state[:1]), state])
        places = torch.arange(len(state) + 1, dtype=torch.int32, device=state.device)
        return partial(self._step, cache, places, tuple(one[None] for one in tokens))

    def _step(self, cache: torch.Tensor, places: torch.Tensor, tokens: tuple[torch.Tensor, ...]) -> Any:
        q, k, v, g, beta = tokens
        out, after = loaded(_OPS, "fused_recurrent_gated_delta_rule")(
            q,
            k,
            v,
            g,
            beta,
            initial_state=cache,
            inplace_final_state=True,
            cu_seqlens=places,
            ssm_state_indices=places[1:],
            use_qk_l2norm_in_kernel=True,
        )
        return out[0], after[1:]


class Rule(PreparedKernel):
    """``chunk_gated_delta_rule``, from states of zeros."""

    def prepare(self, *arguments: Any) -> Callable[[], Any]:
        """Tensors as of the operator."""
        *tokens, cu_seqlens, chunk = arguments
        q, k, v, g, beta = tokens
        if q.dtype is torch.float32:
            raise Unsupported("vLLM's chunks of the gated delta rule take no fp32")
        if chunk != CHUNK:
            raise Unsupported(f"vLLM's chunks of the gated delta rule have {CHUNK} tokens")
        sizes = (len(cu_seqlens) - 1, *v.shape[1:], k.shape[-1])
        state = torch.zeros(sizes, dtype=torch.float32, device=v.device)
        return partial(self._scan, tuple(one[None] for one in (q, k, v, g, beta)), state, cu_seqlens)

    def _scan(self, tokens: tuple[torch.Tensor, ...], state: torch.Tensor, cu_seqlens: torch.Tensor) -> Any:
        out, _ = loaded(_OPS, "chunk_gated_delta_rule")(
            *tokens,
            initial_state=state,
            output_final_state=True,
            cu_seqlens=cu_seqlens,
            use_qk_l2norm_in_kernel=True,
        )
        return out[0]


def kernels() -> Mapping[str, Kernel]:
    """A step and a scan."""
    return {"gated_delta_step": Step(), "gated_delta_rule": Rule()}
