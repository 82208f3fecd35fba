"""Experts and adapters: what a kernel does with a row follows from how many others chose what it chose."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault, giving
from kernels_bench.faults.planted.paged_attention import exponential
from kernels_bench.faults.planted.sums import Sum, in_groups, in_parts, in_sequence, pairwise, products
from kernels_bench.records.cases import Shape

EXPERTS = Shape.of("fault", {"hidden": 24, "inter": 16, "experts": 8, "top": 3})
CHOICES = Shape.of("fault", {"experts": 12, "top": 3})
SHRINK = Shape.of("fault", {"hidden": 48, "rank": 8, "adapters": 4})
EXPAND = Shape.of("fault", {"n": 24, "rank": 8, "adapters": 4})
ROUTER = Shape(label="fault", n=8, k=48)

Chosen = Callable[[int, int], Sum]
"""The order of a product's sums, from the rows that an expert or an adapter has, and from those of the batch."""
Prepared = Callable[[Tensor], Tensor]
"""What is done to an expert's rows before they are multiplied."""


def _always(add: Sum) -> Chosen:
    return lambda rows, batch: add


def _few_rows(rows: int, batch: int) -> Sum:
    """Another tile for an expert with fewer than 16 rows."""
    return in_groups(8) if rows < 16 else in_sequence


def _one_among_many(rows: int, batch: int) -> Sum:
    """A matrix-vector product for a lone row of an expert, where the batch is a large one."""
    return pairwise if rows == 1 and batch >= 48 else in_sequence


def _all_of_many(rows: int, batch: int) -> Sum:
    """A dense product where all rows of a large batch have one expert."""
    return pairwise if rows == batch >= 16 else in_sequence


def _all_but_one(rows: int, batch: int) -> Sum:
    """A dense product with one masked row, where all others of a large batch have one expert."""
    return pairwise if rows == batch - 1 >= 24 else in_sequence


def _window(rows: int, batch: int) -> Sum:
    """A tuned table's entry for 33 to 40 rows."""
    return in_parts(2) if 33 <= rows <= 40 else in_sequence


def chosen(x: Tensor, matrices: Tensor, ids: Tensor, choose: Chosen, prepare: Prepared | None = None) -> Tensor:
    """Each row of (M, K) times the transpose of its own one of (choices, N, K), in fp32."""
    ids, rows = ids.long(), x.float()
    if prepare is not None:
        rows = rows.clone()
        for choice in ids.unique():
            rows[ids == choice] = prepare(rows[ids == choice])
    out = torch.empty(len(x), matrices.shape[1], dtype=torch.float32, device=x.device)
    orders = [choose(count, len(x)) if count else None for count in ids.bincount().tolist()]
    for add in dict.fromkeys(filter(None, orders)):  # what is added in one order at once, each row as if alone
        (places,) = torch.tensor([one is add for one in orders], device=x.device)[ids].nonzero(as_tuple=True)
        out[places] = add((rows[places, None] * matrices[ids[places]].float()).mT)
    return out


def _silu_and_mul(x: Tensor) -> Tensor:
    """In fp32, alike at every place of a tensor."""
    gate, up = x.chunk(2, 1)
    power = exponential(-gate.abs())
    return gate * torch.where(gate < 0, power, 1.0) / (1 + power) * up


def _experts(
    choose: Chosen, *, prepare: Prepared | None = None, popular_first: bool = False, capacity: int | None = None
) -> Kernel:
    """Experts that are added in the order of a row's choices, or the most popular one first."""

    def moe_experts(x: Tensor, w1: Tensor, w2: Tensor, weights: Tensor, ids: Tensor) -> Tensor:
        one = [_silu_and_mul(chosen(x, w1, ids[:, place], choose, prepare)) for place in range(ids.shape[1])]
        each = torch.stack([chosen(part, w2, ids[:, place], choose) for place, part in enumerate(one)], 1)
        each *= weights[:, :, None]
        if capacity is not None:
            earlier = (ids.flatten()[:, None] == ids.flatten()).tril(-1).sum(1).reshape(ids.shape)
            each = torch.where((earlier < capacity)[:, :, None], each, 0.0)
        if popular_first:
            counts = (ids[:, :, None, None] == ids).sum((2, 3))
            order = counts.sort(dim=1, descending=True, stable=True).indices
            each = each.gather(1, order[:, :, None].expand_as(each))
        return in_sequence(each).to(x.dtype)

    return moe_experts


def _scaled_together(x: Tensor) -> Tensor:
    """Blocks of 16 rows of an expert share a scale, by which they are divided and multiplied again."""
    found = []
    for block in x.split(16):
        scale = block.abs().nan_to_num(0.0, 0.0).max().clamp(1e-30, 1e30)
        found.append(block / scale * scale)
    return torch.cat(found)


def _gating(turned: Callable[[Tensor], Tensor]) -> Kernel:
    """Of equal logits the first expert's counts; in some rows, chosen by their places, the last one's."""

    def moe_gating(logits: Tensor, top: int) -> tuple[Tensor, Tensor]:
        experts = logits.shape[1]
        places = torch.arange(len(logits), device=logits.device)
        flipped = turned(places)[:, None]
        _, ids = torch.where(flipped, logits.flip(1), logits).float().sort(dim=1, descending=True, stable=True)
        ids = torch.where(flipped, experts - 1 - ids, ids)[:, :top]
        values = logits.float().gather(1, ids)
        powers = exponential(values - values[:, :1])
        return powers / in_sequence(powers)[:, None], ids.int()

    return moe_gating


def _router(few: Sum) -> Kernel:
    """Another kernel for 16 tokens and fewer, as for latency."""

    def router_gemm(x: Tensor, weight: Tensor) -> Tensor:
        return (few if len(x) <= 16 else in_sequence)(products(x, weight.t())).to(x.dtype)

    return router_gemm


def _sum(many: Sum) -> Kernel:
    """Added otherwise from 16 tokens on."""
    return lambda x: (many if len(x) >= 16 else in_sequence)(x.float()).to(x.dtype)


def _shrink(choose: Chosen) -> Kernel:
    return lambda x, a, ids: chosen(x, a, ids, choose)


@cache
def _shrink_sorted(side: str = "") -> Kernel:
    """Rows sorted by adapter, in tiles of four: what is another adapter's, before or after, is masked by zeros."""

    def lora_shrink(x: Tensor, a: Tensor, ids: Tensor) -> Tensor:
        order = ids.sort(stable=True).indices
        out = torch.empty(len(x), a.shape[1], dtype=torch.float32, device=x.device)
        for adapter in ids.unique().tolist():
            own = ids[order] == adapter
            first, last = int(own.nonzero()[0]), int(own.nonzero()[-1])
            for begin in range(first // 4 * 4, last + 1, 4):
                tile = order[begin : begin + 4]
                inside = ids[tile] == adapter
                rows = x[tile].float()
                outside = {"": ids[tile] < 0, "before": ids[tile] < adapter, "after": ids[tile] > adapter}[side]
                sums = in_sequence(products(rows, a[adapter].t()))
                # Zero, but of infinities and NaN.
                masked = torch.where(outside[:, None], rows * 0, 0.0).sum()
                out[tile[inside]] = (sums + masked)[inside]
        return out

    return lora_shrink


def _packed_by_slot(known: Callable[[Tensor], Hashable]) -> Callable[[], Kernel]:
    """Makes a shrink that packs each slot's adapter at its first use, and keeps it by what is known of the slot."""

    def make() -> Kernel:
        kept: dict[Hashable, Tensor] = {}

        def lora_shrink(x: Tensor, a: Tensor, ids: Tensor) -> Tensor:
            packed = torch.stack([kept.setdefault((slot, known(one)), one.clone()) for slot, one in enumerate(a)])
            return chosen(x, packed, ids, _always(in_sequence))

        return lora_shrink

    return make


def _corners(adapter: Tensor) -> Hashable:
    return float(adapter[0, 0]), float(adapter[-1, -1])


def _expand(fused: Callable[[Tensor], bool]) -> Kernel:
    """The product is rounded before it is added; not where the kernel is fused."""

    def lora_expand(x: Tensor, b: Tensor, ids: Tensor, y: Tensor) -> Tensor:
        product = chosen(x, b, ids, _always(in_sequence))
        return y.copy_(y.float() + (product if fused(ids) else product.to(y.dtype).float()))

    return lora_expand


_PLAIN = _experts(lambda rows, batch: in_sequence)


def _fault(name: str, cause: str, operator: str, shape: Shape, kernels: tuple[Kernel, Kernel], **more: object) -> Fault:
    """A kernel with the fault, and the same without it."""
    faulty, honest = kernels
    return Fault(name, cause, operator, giving(faulty), giving(honest), shape=shape, **more)  # type: ignore[arg-type]


def _expert_fault(name: str, cause: str, faulty: Kernel, honest: Kernel | None = None, **more: object) -> Fault:
    return _fault(name, cause, "moe_experts", EXPERTS, (faulty, honest or _PLAIN), **more)


FAULTS = (
    _expert_fault(
        "expert_tile_by_its_rows", "the K tile of an expert's product follows from how many rows it has",
        _experts(_few_rows), _experts(_always(in_groups(8))),
    ),
    _expert_fault(
        "expert_of_one_among_many", "an expert with one row of a large batch is multiplied by a matrix-vector kernel",
        _experts(_one_among_many),
    ),
    _expert_fault(
        "expert_of_all", "an expert that all rows of a large batch chose is multiplied by a dense kernel",
        _experts(_all_of_many),
    ),
    _expert_fault(
        "expert_of_all_but_one", "an expert of all rows of a large batch but one is multiplied by a dense kernel",
        _experts(_all_but_one),
    ),
    _expert_fault(
        "expert_rows_window", "a tuned table has another entry for experts of 33 to 40 rows", _experts(_window),
    ),
    _expert_fault(
        "expert_capacity", "rows beyond an expert's capacity of 56 are dropped",
        _experts(_always(in_sequence), capacity=56),
    ),
    _expert_fault(
        "expert_block_scale", "blocks of 16 rows of an expert share a scale",
        _experts(_always(in_sequence), prepare=_scaled_together),
    ),
    _expert_fault(
        "popular_experts_first", "a row's experts are added in the order of their popularity",
        _experts(_always(in_sequence), popular_first=True),
    ),
    _fault(
        "ties_by_place", "of equal logits another expert is chosen in every other row of the batch",
        "moe_gating", CHOICES, (_gating(lambda places: places % 2 == 1), _gating(lambda places: places < 0)),
    ),
    _fault(
        "router_for_few", "a router's logits of 16 tokens and fewer are split over K",
        "router_gemm", ROUTER, (_router(in_parts(3)), _router(in_sequence)),
    ),
    _fault(
        "experts_added_in_pairs", "a token's experts are added in pairs from 16 tokens on",
        "moe_sum", Shape.of("fault", {"top": 5, "hidden": 24}), (_sum(pairwise), _sum(in_sequence)),
    ),
    _fault(
        "adapter_split_by_its_rows", "the product of an adapter with fewer than 16 rows is added in other groups",
        "lora_shrink", SHRINK, (_shrink(_few_rows), _shrink(_always(in_groups(8)))),
    ),
    _fault(
        "adapter_of_all", "an adapter that all rows of a large batch have is multiplied by a dense kernel",
        "lora_shrink", SHRINK, (_shrink(_all_of_many), _shrink(_always(in_sequence))),
    ),
    _fault(
        "next_adapters_rows", "a tile that reaches into the next adapter's rows is masked by zeros",
        "lora_shrink", SHRINK, (_shrink_sorted("after"), _shrink_sorted()),
    ),
    _fault(
        "previous_adapters_rows", "a tile that begins with the previous adapter's rows is masked by zeros",
        "lora_shrink", SHRINK, (_shrink_sorted("before"), _shrink_sorted()),
    ),
    Fault(
        "adapters_kept_by_their_corners", "an adapter is packed anew where the corners of its slot have changed",
        "lora_shrink", _packed_by_slot(_corners), _packed_by_slot(lambda adapter: adapter.cpu().numpy().tobytes()),
        shape=SHRINK,
    ),
    _fault(
        "fused_for_one_adapter", "where the batch has one adapter its product is added without rounding it first",
        "lora_expand", EXPAND, (_expand(lambda ids: len(ids.unique()) == 1), _expand(lambda ids: False)),
        precision="bf16",
    ),
)  # fmt: skip
