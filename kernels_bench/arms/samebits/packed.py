"""Prefills whose keys and values lie packed, by samebits' attention over pages: of one token each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kernels_bench.arms.base import Kernel, PreparedKernel, prepared
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.inputs.paged_batch import packed


class Packed(PreparedKernel):
    """Causal attention of whole sequences, whose values may be shorter than their keys.

    Args:
        attention: over pages, of keys and values of one length.
    """

    def __init__(self, attention: Kernel) -> None:
        self._attention = attention

    def prepare(self, *arguments: Any) -> Callable[[], torch.Tensor]:
        """q and k (tokens, heads, dk), v (tokens, heads, dv), and where each sequence begins."""
        q, k, v, cu_seqlens = arguments
        # Zeros behind the values, which take no part in any other element's sum.
        values = v.new_zeros(k.shape)
        batch = packed(cu_seqlens, q.shape[-1] ** -0.5)
        attend = prepared(self._attention, (q, k[:, None], values[:, None], batch))
        return partial(_attend, attend, v, values)


def _attend(attend: Callable[[], torch.Tensor], v: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    size = v.shape[-1]
    values[..., :size] = v
    return attend()[..., :size].contiguous()
