"""A mixture of experts: the router's logits, the choice of experts, the experts themselves, and the sum over them."""

from __future__ import annotations

from typing import Any

from kernels_bench.device.lazy_torch import F, torch
from kernels_bench.operators.base import RowTensors, Tensors, roundoff, smallest
from kernels_bench.operators.definitions import floats, integers
from kernels_bench.operators.gemm import Linear, accumulation_allowance, exact_product
from kernels_bench.operators.layers.layer import BY_REQUEST, LATER, LayerOperator, SumOfParts
from kernels_bench.operators.layers.routed import Routed
from kernels_bench.records.cases import Shape

_FAMILY = "moe"
_FLUSHED = 2.0**-126
"""The smallest normal number of fp32: what is smaller may be flushed."""


class RouterGemm(Linear):
    """A router's logits, in fp32 of 16-bit tokens where a kernel can: few columns, so that kernels split K."""

    name = "router_gemm"
    summary = "logits[M,N] = x[M,K] weight[N,K]^T of N experts"
    family = _FAMILY
    by_request = BY_REQUEST
    precisions = ("bf16:fp32", "bf16", "fp32")
    shapes = tuple(
        Shape(label=label, n=n, k=k)
        for label, (n, k) in {
            "deepseek-v3/router": (256, 7168),
            "kimi-k2/router": (384, 7168),
            "qwen3-30b-a3b/router": (128, 2048),
            "gpt-oss-120b/router": (128, 2880),
            "minimax-m2/router": (256, 3072),
            "unaligned/0": (67, 1003),
            "small/aligned": (32, 512),
            "small/unaligned": (19, 259),
        }.items()
    )
    usual = tuple(shape.label for shape in shapes if not shape.label.startswith("small/"))
    quick = usual[:1]


class MoeGating(LayerOperator):
    """Softmax over a row's logits, its largest shares and whose they are, in descending order, made to add to 1.

    A kernel gives (weights, ids). What it chose is judged by expert: where shares are equal, or nearly so that a
    rounding decides, either choice is right. In bits all is compared, the order among equals too.
    """

    family = _FAMILY

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """Every fourth row's logits are multiples of 1/4, so that many are equal."""
        (logits,) = super().rows(shape, count, dtype, seed, device)
        logits[1:count:4] = (logits[1:count:4] * 4).round() / 4
        return (logits,)

    def split_result(self, result: Any) -> RowTensors:
        """The kernel's weights and ids, and the weight of each expert, 0 of those that were not chosen."""
        results = super().split_result(result)
        if len(results) != 2 or any(not isinstance(one, torch.Tensor) or one.dim() != 2 for one in results):
            return results
        weights, ids = results
        experts = self._size("experts")
        shares = weights.new_zeros(len(weights), experts)
        # One after the other: should a kernel choose an expert twice, its last weight counts, on every device.
        for place in range(min(ids.shape[1], weights.shape[1])):
            column = slice(place, place + 1)
            shares.scatter_(1, ids[:, column].long().clamp(0, experts - 1), weights[:, column])
        return weights, ids, shares

    def huge_rows(self, shape: Shape) -> int:
        """None: no engine routes millions of tokens at once."""
        return 0

    def _size(self, name: str) -> int:
        assert self._at is not None
        return self._at.size(name)

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """Weights and ids in descending order, and the weight of each expert."""
        shares = rows[0].double().softmax(1)
        chosen, ids = shares.topk(self._size("top"), dim=1)
        chosen = chosen / chosen.sum(1, keepdim=True)
        return chosen, ids, torch.zeros_like(shares).scatter_(1, ids, chosen)

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """Of each expert's weight; in which order they come only bits can tell, as with ties nobody can.

        An exponential magnifies the rounding of its argument by the argument's size. A kernel may give weights in the
        logits' dtype.
        """
        logits, top = rows[0].double(), self._size("top")
        shares = logits.softmax(1)
        magnified = 16 * roundoff(torch.float32) * (16 + logits.abs() + logits.abs().amax(1, keepdim=True))
        lost = shares * magnified + _FLUSHED
        ordered, places = shares.topk(min(top + 1, shares.shape[1]), dim=1)
        within, beyond = (side.gather(1, places) for side in (shares + lost, shares - lost))
        is_in = torch.zeros_like(shares).scatter_(1, places[:, :top], 1.0) > 0
        least_in, most_out = beyond[:, top - 1 : top], within[:, top : top + 1]
        if not most_out.shape[1]:  # every expert is chosen
            most_out = torch.full_like(least_in, -1.0)
        either = torch.where(is_in, shares - lost <= most_out, shares + lost >= least_in)
        narrow = 0.0 if rows[0].dtype is torch.float32 else 4 * roundoff(rows[0].dtype)
        total = ordered[:, :top].sum(1, keepdim=True)
        bound = exact[2] * (2 * magnified + narrow) + 2 * _FLUSHED / total
        bound = bound.masked_fill(either, torch.inf).nan_to_num(nan=torch.inf)
        return *(torch.full_like(one, torch.inf, dtype=torch.float64) for one in exact[:2]), bound


class MoeSum(SumOfParts):
    """The sum over a token's experts."""

    family = _FAMILY
    parts = "top"

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """Every addition may be rounded to the result's dtype."""
        x = rows[0].double().abs()
        return ((x.sum(1) * (x.shape[1] * roundoff(out)) + 2 * smallest(out)).nan_to_num(nan=torch.inf),)

    def operations(self, shape: Shape, m: int) -> int:
        """An addition an element."""
        return m * self.row_sizes(shape)[0]


class MoeExperts(Routed):
    """What a token's experts make of it, weighted and added.

    The order that is read is that of an expert's second product, of the experts that all M tokens have.
    """

    family = _FAMILY
    among = "experts"

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """In float64, one expert after the other: nothing is gathered a token."""
        return self.reference_and_tolerance(rows, weights, torch.float32)[0]

    def reference_and_tolerance(
        self, rows: RowTensors, weights: Tensors, out: torch.dtype
    ) -> tuple[RowTensors, RowTensors]:
        """Both products' errors as of `accumulation_allowance`; those of the first as they go through the second.

        These are as good as independent, so that their squares add; a dtype may round what stands between the products,
        and each addition of an expert.
        """
        x, ids, shares = rows
        exact = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
        bound, size = torch.zeros_like(exact), torch.zeros_like(exact)
        for expert in ids.unique().tolist():
            tokens, places = (ids == expert).nonzero(as_tuple=True)
            one, lost = _expert(x[tokens].double(), weights[0][expert], weights[1][expert], out)
            share = shares[tokens, places, None].double()
            exact.index_add_(0, tokens, one * share)
            bound.index_add_(0, tokens, lost * share)
            size.index_add_(0, tokens, one.abs() * share)
        bound += size * ((ids.shape[1] + 2) * roundoff(out)) + 2 * smallest(out)
        return (exact,), (bound.nan_to_num_(nan=torch.inf),)

    def operations(self, shape: Shape, m: int) -> int:
        """A multiplication and an addition for each product of each of a token's experts."""
        sizes = dict(shape.sizes)
        return m * sizes["top"] * 2 * 3 * sizes["hidden"] * sizes["inter"]

    def huge_rows(self, shape: Shape) -> int:
        """None: what kernels hold between the products is many times as large as their rows."""
        return 0

    def probe_terms(self, shape: Shape) -> int:
        """What stands between the products."""
        return shape.size("inter")

    def probe_sum_count(self, shape: Shape, m: int) -> int:
        """Every column of the result; all rows add the same."""
        return shape.size("hidden")

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """An expert whose second product adds ``terms``, beside others that add nothing.

        The gate is 32, of which silu is 32 in every dtype, and what it is multiplied by 1/32.
        """
        sizes = dict(shape.sizes)
        experts, inter, top = sizes["experts"], sizes["inter"], sizes["top"]
        x = terms.new_zeros(m, sizes["hidden"])
        x[:, 0] = 1
        first = terms.new_zeros(experts, 2 * inter, sizes["hidden"])
        first[:, :inter, 0], first[:, inter:, 0] = _GATE, 1 / _GATE
        second = torch.cat([terms[None], terms.new_zeros(experts - 1, *terms.shape)])
        ids = torch.arange(top, dtype=torch.int32, device=terms.device).expand(m, -1).contiguous()
        shares = (ids == 0).float()
        return (x, ids, shares), (first, second)

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(M, hidden)."""
        return outputs[0]


_GATE = 32.0


def _expert(
    x: torch.Tensor, first: torch.Tensor, second: torch.Tensor, out: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """What an expert makes of some tokens, and how far an honest kernel may be from it, float64."""
    inner = exact_product(x, first.t())
    gate, up = inner.chunk(2, 1)
    lost_gate, lost_up = accumulation_allowance(x, first.t(), inner, out).chunk(2, 1)
    gated = F.silu(gate)
    between = gated * up
    # The slope of silu is 1.1 at most.
    lost = 1.1 * lost_gate * (up.abs() + lost_up) + gated.abs() * lost_up
    lost += between.abs() * (4 * roundoff(out) + roundoff(torch.float32) * (16 + 2 * gate.abs()))
    lost += (1 + up.abs()) * (2 * smallest(out) + _FLUSHED)
    result = exact_product(between, second.t())
    carried = exact_product(lost.square(), second.t().double().square()).sqrt_()
    return result, accumulation_allowance(between, second.t(), result, out).add_(carried, alpha=2.0)


def _experts(hidden: int, inter: int, experts: int, top: int) -> dict[str, int]:
    return {"hidden": hidden, "inter": inter, "experts": experts, "top": top}


# Of the larger models what one of eight GPUs has of each expert.  The first has few: in further dtypes, which are tried
# at the first shape, torch calls one expert after the other.
_EXPERTS = {
    "gpt-oss-20b/experts": _experts(2880, 2880, 32, 4),
    "qwen3-30b-a3b/experts": _experts(2048, 768, 128, 8),
    "deepseek-v3/experts-tp8": _experts(7168, 256, 256, 8),
    "mixtral-8x7b/experts-tp8": _experts(4096, 1792, 8, 2),
    "unaligned/0": _experts(1003, 259, 7, 3),
    "small/aligned": _experts(256, 128, 8, 2),
    "small/unaligned": _experts(131, 67, 7, 3),
}
_CHOICES = {
    "qwen3-30b-a3b/router": {"experts": 128, "top": 8},
    "deepseek-v3/router": {"experts": 256, "top": 8},
    "kimi-k2/router": {"experts": 384, "top": 8},
    "gpt-oss-120b/router": {"experts": 128, "top": 4},
    "mixtral-8x7b/router": {"experts": 8, "top": 2},
    "unaligned/0": {"experts": 67, "top": 5},
    "small/aligned": {"experts": 32, "top": 4},
    "small/unaligned": {"experts": 19, "top": 3},
}
_SUMS = {
    "qwen3-30b-a3b/experts": {"top": 8, "hidden": 2048},
    "deepseek-v3/experts": {"top": 8, "hidden": 7168},
    "gpt-oss-120b/experts": {"top": 4, "hidden": 2880},
    "unaligned/0": {"top": 5, "hidden": 1003},
    "small/aligned": {"top": 8, "hidden": 256},
    "small/unaligned": {"top": 5, "hidden": 131},
}

OPERATORS = (
    RouterGemm(),
    MoeGating.define(
        "moe_gating",
        rows={"logits": ("experts",)},
        shapes=_CHOICES,
        results=[floats("top", dtype="fp32"), integers("top", dtype="int32"), floats("experts", dtype="fp32")],
        arguments=("logits", "top"),
        dtypes=("fp32", "bf16"),
        summary="(weights, ids)[M,top] = the largest of softmax(logits), in descending order, / their sum",
    ),
    MoeExperts.define(
        "moe_experts",
        rows={
            "x": ("hidden",),
            "ids": integers("top", high="experts", dtype="int32"),
            "weights": floats("top", dtype="fp32", low=0.05, high=1.0),
        },
        shared={"w1": ("experts", "2*inter", "hidden"), "w2": ("experts", "hidden", "inter")},
        shapes=_EXPERTS,
        results=("hidden",),
        arguments=("x", "w1", "w2", "weights", "ids"),
        dtypes=("bf16", "fp16"),  # no engine keeps experts in fp32
        summary="y[M,H] = sum of weight * silu_and_mul(x w1[id]^T) w2[id]^T over a row's ids",
    ),
    MoeSum.define(
        "moe_sum",
        rows={"x": ("top", "hidden")},
        shapes=_SUMS,
        results=("hidden",),
        reference=lambda x: x.sum(1),
        summary="y[M,H] = sum of x[M,:,H] over a row's experts",
    ),
)
ORDER = LATER
