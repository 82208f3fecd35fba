"""vLLM's Triton kernels over Mamba2's state, as its mixer calls them (0.26 to 0.33).

Their tiles are what timing chose in this process (``@triton.autotune``), by no key that has the batch in it. In
batch-invariant mode the back end refuses to start, so that no arm claims them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

from kernels_bench.arms.base import Kernel, PreparedKernel
from kernels_bench.arms.vllm.installed import loaded
from kernels_bench.device.lazy_torch import torch

OPERATORS = ("state_update", "chunk_scan")
_OPS = "model_executor.layers.mamba.ops"


def chunks_of(cu_seqlens: list[int], chunk: int) -> tuple[list[int], list[int], list[int]]:
    """Where chunks begin and the last one ends, the sequence of each, and each sequence's last chunk.

    As the back end's metadata have it: every sequence begins a chunk.
    """
    begins, sequences, last = [0], [], []
    for sequence, (begin, end) in enumerate(pairwise(cu_seqlens)):
        ends = [*range(begin + chunk, end, chunk), end]
        begins += ends
        sequences += [sequence] * len(ends)
        last.append(len(sequences) - 1)
    return begins, sequences, last


class ChunkScan(PreparedKernel):
    """``mamba_chunk_scan_combined_varlen``, whose metadata are made once a step for all layers."""

    def prepare(self, *arguments: Any) -> Callable[[], torch.Tensor]:
        """Tensors as of the operator; returns (tokens, heads, dim)."""
        x, dt, b, c, cu_seqlens, a, d, dt_bias, chunk = arguments
        found = (torch.tensor(one, dtype=torch.int32, device=x.device) for one in chunks_of(cu_seqlens.tolist(), chunk))
        return partial(self._scanned, (x, dt, a, b, c, chunk, cu_seqlens), tuple(found), {"D": d, "dt_bias": dt_bias})

    def _scanned(self, given: tuple[Any, ...], chunks: tuple[torch.Tensor, ...], more: dict[str, Any]) -> torch.Tensor:
        out, (begins, sequences, last) = torch.empty_like(given[0]), chunks
        scan = loaded(f"{_OPS}.ssd_combined", "mamba_chunk_scan_combined_varlen")
        scan(*given, begins, last, sequences, out, dt_softplus=True, state_dtype=torch.float32, **more)
        return out


def stepped(step: Callable[..., object], arguments: tuple[torch.Tensor, ...], **more: object) -> tuple[Any, Any]:
    """One token of each sequence by ``selective_state_update``, which takes by element what here is by head."""
    state, x, dt, b, c, a, d, dt_bias = arguments
    dim, n, out = x.shape[2], b.shape[2], torch.empty_like(x)
    by_element = dt[..., None].expand(-1, -1, dim)
    rate, skip, bias = a[:, None, None].expand(-1, dim, n), d[:, None].expand(-1, dim), dt_bias[:, None]
    step(state, x, by_element, rate, b, c, skip, dt_bias=bias.expand(-1, dim), dt_softplus=True, out=out, **more)
    return out, state


def state_update(*arguments: torch.Tensor) -> tuple[Any, Any]:
    """State, x, dt, B, C, A, D and dt's bias, as of the operator."""
    return stepped(loaded(f"{_OPS}.mamba_ssm", "selective_state_update"), arguments)


def kernels() -> Mapping[str, Kernel]:
    """A step and a scan."""
    return {"state_update": state_update, "chunk_scan": ChunkScan()}
