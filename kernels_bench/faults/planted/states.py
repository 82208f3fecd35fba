"""Scans and steps of a state that each sequence has for itself."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.paged_attention import exponential
from kernels_bench.faults.planted.sums import Sum, by_rows, in_sequence, on_host
from kernels_bench.faults.planted.sums import pairwise as in_pairs
from kernels_bench.records.cases import Shape

_CHUNK, _SEVERAL, _FEW, _LONG = 8, 4, 16, 24
_SHAPE = Shape.of("fault", {"heads": 2, "dim": 2, "n": 6, "groups": 1, "chunk": _CHUNK})


def _logarithm(x: Tensor) -> Tensor:
    """log(1 + x) for x in [0, 1], by a series of element-wise operations, which are alike at every place."""
    ratio = x / (2 + x)
    square, total = ratio * ratio, torch.zeros_like(x)
    for power in range(17, 0, -2):
        total = total * square + 1 / power
    return 2 * ratio * total


def _step_of(dt: Tensor, bias: Tensor) -> Tensor:
    raw = dt.float() + bias
    return raw.clamp(min=0) + _logarithm(exponential(-raw.abs()))


def _entering(x: Tensor, step: Tensor, b: Tensor) -> Tensor:
    """What a token adds to the state: (tokens, heads, dim, n)."""
    return (x.float() * step[..., None])[..., None] * b.float()[:, :, None]


def _chunk_scan(begin: Callable[[int, Tensor], int], add: Callable[[int], Sum] = lambda _: in_sequence) -> Kernel:
    """Chunk by chunk, whose states are added up before what was there decays into them.

    ``begin`` says where a sequence's chunks are counted from, and ``add`` how a state's elements are added in a batch
    of so many sequences.
    """

    @np.errstate(all="ignore")
    def kernel(  # noqa: PLR0913, PLR0917
        x: Tensor, dt: Tensor, b: Tensor, c: Tensor, cu_seqlens: Tensor, a: Tensor, d: Tensor, dt_bias: Tensor,
        chunk: int,
    ) -> Tensor:  # fmt: skip
        step = _step_of(dt, dt_bias)
        decay, added, read = on_host(
            exponential(step * a)[..., None, None], _entering(x, step, b), c.float()[:, :, None]
        )
        terms = np.empty_like(added)
        for first, end in pairwise(cu_seqlens.tolist()):
            origin = begin(first, cu_seqlens)
            before = within = np.zeros_like(added[0])
            kept = np.ones_like(decay[0])
            for token in range(first, end):
                if (token - origin) % chunk == 0:
                    before, within, kept = before * kept + within, 0 * within, np.ones_like(kept)
                kept, within = kept * decay[token], within * decay[token] + added[token]
                terms[token] = (before * kept + within) * read[token]
        y = add(len(cu_seqlens) - 1)(torch.from_numpy(terms).to(x.device).movedim(-1, 1)) + d[:, None] * x.float()
        return y.to(x.dtype)

    return kernel


def _own(first: int, cu_seqlens: Tensor) -> int:
    return first


def _packed(first: int, cu_seqlens: Tensor) -> int:
    """Chunks begin at multiples of the packed tokens."""
    return 0


def _if_long(first: int, cu_seqlens: Tensor) -> int:
    """Chunks begin a token earlier where some sequence of the batch is long."""
    return first - 1 if int(cu_seqlens.diff().max()) >= _LONG and len(cu_seqlens) > 2 else first


def _if_longer(first: int, cu_seqlens: Tensor) -> int:
    """Likewise where some sequence has more than six chunks."""
    return first - 1 if int(cu_seqlens.diff().max()) > 6 * _CHUNK else first


def _state_update(add: Sum, slots: Callable[[int], list[int]] = lambda m: list(range(m))) -> Kernel:
    """A step, whose sum over the state is added in an order; ``slots`` says whose state a row has."""

    def kernel(  # noqa: PLR0913, PLR0917
        state: Tensor, x: Tensor, dt: Tensor, b: Tensor, c: Tensor, a: Tensor, d: Tensor, dt_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        step = _step_of(dt, dt_bias)
        state.copy_(state[slots(len(x))] * exponential(step * a)[..., None, None] + _entering(x, step, b))
        y = add((state * c.float()[:, :, None]).movedim(-1, 1)) + d[:, None] * x.float()
        return y.to(x.dtype), state

    return kernel


def _scan() -> Kernel:
    return _chunk_scan(_own)


def _update() -> Kernel:
    return _state_update(in_sequence)


def _fresh_in_pairs() -> Kernel:
    """Sequences of which none has a state yet are added in pairs."""
    usual, fresh = _state_update(in_sequence), _state_update(in_pairs)

    def kernel(state: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = (usual if bool((state != 0).any()) else fresh)(state, *others)
        return found

    return kernel


def _last_two_exchanged(m: int) -> list[int]:
    slots = list(range(m))
    return slots if m < 2 or m >= _FEW else [*slots[:-2], m - 1, m - 2]


FAULTS = (
    Fault("chunks_of_the_packed_tokens", "a scan's chunks begin at multiples of 8 of all sequences' tokens",
        "chunk_scan", lambda: _chunk_scan(_packed), _scan, shape=_SHAPE, universe=9),
    Fault("chunks_by_the_longest", "a scan's chunks begin a token earlier beside a sequence of 24 tokens or more",
        "chunk_scan", lambda: _chunk_scan(_if_long), _scan, shape=_SHAPE, universe=9),
    Fault("state_added_in_pairs", "a state's elements are added in pairs from 16 rows on",
        "state_update", lambda: _state_update(by_rows(in_sequence, in_pairs, _FEW)),
        _update, shape=_SHAPE),
    Fault("states_of_the_last_two", "below 16 rows the last two sequences have each other's state",
        "state_update", lambda: _state_update(in_sequence, _last_two_exchanged),
        _update, shape=_SHAPE),
    Fault("sequences_without_a_state", "where no sequence has a state yet, its elements are added in pairs",
        "state_update", _fresh_in_pairs, _update, shape=_SHAPE),
    Fault("chunks_beside_six", "a scan's chunks begin a token earlier beside a sequence of more than six chunks",
        "chunk_scan", lambda: _chunk_scan(_if_longer), _scan, shape=_SHAPE, universe=9),
    Fault("scan_in_pairs", "a state's elements are added in pairs below four sequences", "chunk_scan",
        lambda: _chunk_scan(_own, lambda m: in_pairs if m < _SEVERAL else in_sequence), _scan, precision="bf16",
        shape=_SHAPE, universe=9),
    Fault("state_added_in_pairs_in_16_bits", "a state's elements are added in pairs from 16 rows of 16 bits on",
        "state_update", lambda: _state_update(by_rows(in_sequence, in_pairs, _FEW)), _update, precision="bf16",
        shape=_SHAPE),
)  # fmt: skip
