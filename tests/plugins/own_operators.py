"""Two operators of a user's own and two arms: one that keeps its bits, one that does not."""

import torch

from kernels_bench import Operator, floats, integers
from kernels_bench.arms import Arm

scaled = Operator.define(
    "scaled",
    rows={"x": floats("d", dtype="fp8_e4m3"), "scale": floats(1, low=0.5, high=2.0, dtype="fp32")},
    shapes={"wide": {"d": 96}, "odd": {"d": 33}},
    reference=lambda x, scale: x * scale,
    dtypes=("bf16",),
)
ranked = Operator.define(
    "ranked",
    rows={"x": ("heads", "2*h"), "group": integers(high="groups", dtype="int32")},
    shared={"bias": ("groups", "heads"), "factor": 0.5},
    shapes={"small": {"heads": 3, "h": 4, "groups": 5}},
    results=[("heads",), integers(1)],
    dtypes=("fp32",),
)


def scale_rows(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (x.float() * scale).to(torch.bfloat16)


def added(x: torch.Tensor, turned: bool) -> torch.Tensor:
    total = torch.zeros(x.shape[:2])
    for column in x.unbind(2)[:: -1 if turned else 1]:
        total = total + column
    return total


def rank(x: torch.Tensor, group: torch.Tensor, bias: torch.Tensor, factor: float) -> tuple[torch.Tensor, torch.Tensor]:
    scores = added(x, turned=False) * factor + bias[group.long()]
    return scores, group.long()[:, None]


def rank_by_size(x: torch.Tensor, *others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scores = added(x, turned=len(x) < 8) * 0.5 + others[1][others[0].long()]
    return scores, others[0].long()[:, None] + (len(x) < 4)


ARMS = (
    Arm("steady", lambda: {"scaled": scale_rows, "ranked": rank}, offers=("scaled", "ranked"), default_for=("ranked",)),
    Arm("by-size", lambda: {"ranked": rank_by_size}, offers=("ranked",)),
)
