"""Rotary position embedding (Su et al., RoFormer, 2021) of queries and keys, in place as engines run it."""

from __future__ import annotations

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.definitions import floats, integers
from kernels_bench.operators.layers.layer import LATER, LayerOperator


class Rotary(LayerOperator):
    """Of each token's heads, two halves are turned by the angles of its position."""

    family = "rotary"


def rotated(x: torch.Tensor, angles: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Heads (M, heads * head_dim) turned by ``angles`` (M, head_dim): cosines, then sines; halves as in GPT-NeoX."""
    one, other = x.unflatten(1, (-1, head_dim)).chunk(2, 2)
    cos, sin = angles[:, None].chunk(2, 2)
    return torch.cat([one * cos - other * sin, other * cos + one * sin], 2).flatten(1)


def _sizes(heads: int, kv_heads: int, head_dim: int, positions: int) -> dict[str, int]:
    return {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "positions": positions}


OPERATORS = (
    Rotary.define(
        "rotary",
        rows={
            "ids": integers(high="positions"),
            "q": ("heads*head_dim",),
            "k": ("kv_heads*head_dim",),
        },
        shared={"cos_sin": floats("positions", "head_dim", low=-1, high=1)},
        shapes={
            "qwen3-8b/rope": _sizes(32, 8, 128, 40960),
            "llama-3.2-1b/rope": _sizes(32, 8, 64, 131072),
            "unaligned/0": _sizes(7, 3, 80, 4099),
            "small/aligned": _sizes(4, 2, 64, 512),
            "small/unaligned": _sizes(3, 1, 20, 131),
        },
        results=[("heads*head_dim",), ("kv_heads*head_dim",)],
        reference=lambda ids, q, k, cos_sin, head_dim: tuple(rotated(x, cos_sin[ids], head_dim) for x in (q, k)),
        arguments=("ids", "q", "k", "head_dim", "cos_sin"),
        overwrites=("q", "k"),
        summary="q, k: (x1 cos - x2 sin, x2 cos + x1 sin) by each token's position",
    ),
)
ORDER = LATER
