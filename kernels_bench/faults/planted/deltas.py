"""The gated delta rule in chunks: what a chunk begins with is kept apart from what its tokens wrote."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.paged_attention import exponential
from kernels_bench.faults.planted.sums import in_sequence, on_host
from kernels_bench.operators.layers.gated_delta import EPS
from kernels_bench.records.cases import Shape

_CHUNK, _FEW = 8, 4
_SHAPE = Shape.of("fault", {"heads": 2, "key_heads": 1, "dk": 4, "dv": 2, "chunk": _CHUNK})


def _over_last(x: Tensor) -> Tensor:
    """The sum over the last dimension, in sequence."""
    return in_sequence(x.movedim(-1, 0)[None])[0]


def _unit(x: Tensor, heads: int) -> Tensor:
    wide = x.float()
    return (wide / (_over_last(wide * wide) + EPS).sqrt()[..., None]).repeat_interleave(heads // x.shape[1], 1)


def _chunked(chunk_of: Callable[[int, Tensor], int]) -> Kernel:
    """``chunk_of`` says how many tokens a chunk has, of the chunk's size and of where sequences begin."""

    @np.errstate(all="ignore")
    def kernel(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, cu_seqlens: Tensor, chunk: int) -> Tensor:
        size, heads = chunk_of(chunk, cu_seqlens), v.shape[1]
        # What is added up, over the keys' elements, stands first.
        query, key, decay, values, shares = on_host(
            (_unit(q, heads) * q.shape[-1] ** -0.5).movedim(-1, 1)[..., None],
            _unit(k, heads).movedim(-1, 1)[..., None],
            exponential(g.float())[:, None, :, None],
            v.float(),
            beta.float()[..., None],
        )
        read = np.empty((len(v), k.shape[2], *v.shape[1:]), np.float32)
        for first, end in pairwise(cu_seqlens.tolist()):
            before = written = np.zeros_like(read[0])
            kept = np.ones_like(decay[0])
            for token in range(first, end):
                if (token - first) % size == 0:
                    before, written = before * kept + written, np.zeros_like(written)
                    kept = np.ones_like(kept)
                kept, written = kept * decay[token], written * decay[token]
                held = np.add.reduce((before * kept + written) * key[token])
                written = written + (values[token] - held) * shares[token] * key[token]
                read[token] = (before * kept + written) * query[token]
        return in_sequence(torch.from_numpy(read).to(v.device)).to(v.dtype)

    return kernel


def _own(chunk: int, cu_seqlens: Tensor) -> int:
    return chunk


def _by_sequences(chunk: int, cu_seqlens: Tensor) -> int:
    """Half as many where sequences are few."""
    return chunk if len(cu_seqlens) - 1 >= _FEW else chunk // 2


def _control() -> Kernel:
    return _chunked(_own)


FAULTS = (
    Fault("delta_chunks_by_sequences", "the delta rule's chunks have half as many tokens below 4 sequences",
        "gated_delta_rule", lambda: _chunked(_by_sequences), _control, shape=_SHAPE, universe=9),
    Fault("delta_chunks_in_16_bits", "in 16 bits the delta rule's chunks have half as many tokens below 4 sequences",
        "gated_delta_rule", lambda: _chunked(_by_sequences), _control, precision="bf16", shape=_SHAPE, universe=9),
)  # fmt: skip
