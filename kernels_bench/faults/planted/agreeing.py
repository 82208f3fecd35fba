"""Rows of several tensors: rows that differ in one of them alone, and tensors of a row that agree with each other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault, giving
from kernels_bench.faults.planted.sums import in_sequence, pairwise
from kernels_bench.operators import Operator
from kernels_bench.operators.defined import DefinedOperator
from kernels_bench.operators.definitions import floats, integers
from kernels_bench.verification.bitwise import bits

_SEVERAL = 4
_ROWS = 257
"""Of which some eight are copies but for one tensor, or have two that agree."""


def _choosing(name: str, reference: Callable[..., Tensor] | None = None) -> DefinedOperator:
    """Rows that choose one of some adapters, and a share of what it gives."""
    return DefinedOperator.define(
        name,
        rows={"x": ("d",), "adapter": integers(high=16), "share": floats(low=0.25, high=1.0, dtype="fp32")},
        shared={"table": (16, "d")},
        shapes={"fault": {"d": 24}},
        results=[floats(dtype="fp32")],
        reference=reference,
    )


ADAPTED = _choosing("planted_adapted")
KEPT = _choosing("planted_adapted_rows", lambda x, adapter, share, table: (x * table[adapter]).sum(1) * share)

GREEDY = DefinedOperator.define(
    "planted_greedy",
    rows={"logits": ("v",), "token": integers(high="v")},
    shapes={"fault": {"v": 24}},
    results=[floats(dtype="fp32")],
)

DRAFTED = DefinedOperator.define(
    "planted_drafted",
    rows={"draft": integers(4, high=32000), "told": integers(4, high=32000), "x": ("d",)},
    shapes={"fault": {"d": 24}},
    results=[floats(dtype="fp32"), integers()],
    reference=lambda draft, told, x: (x.sum(1), _accepted(draft, told)),
)

PLACED = DefinedOperator.define(
    "planted_placed",
    rows={"x": ("d",), "place": integers(3, high=4096)},
    shapes={"fault": {"d": 24}},
    results=[floats(dtype="fp32")],
)

PADDED = DefinedOperator.define(
    "planted_padded_rows",
    rows={"x": ("d",), "mask": integers("d", high=2)},
    shapes={"fault": {"d": 24}},
    results=[floats(dtype="fp32")],
)


def _adapted(x: Tensor, adapter: Tensor, share: Tensor, table: Tensor) -> Tensor:
    return in_sequence(x.float() * table[adapter.long()].float()) * share


def _computed_once(known_by: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]) -> Kernel:
    """Rows that some of their tensors show to be the same are computed once a call: as the first of them."""

    def kernel(x: Tensor, adapter: Tensor, share: Tensor, table: Tensor) -> Tensor:
        keys = torch.cat([_bytes(one) for one in known_by(x, adapter, share)], 1)
        which = keys.unique(dim=0, return_inverse=True)[1]
        places = torch.arange(len(x), device=x.device)
        first = places.new_full((len(x),), len(x)).scatter_reduce_(0, which, places, "amin")
        return _adapted(x, adapter, share, table)[first[which]]

    return kernel


def _bytes(tensor: Tensor) -> Tensor:
    return bits(tensor.contiguous()).reshape(len(tensor), -1).view(torch.uint8)


def _kept_over_calls(with_adapter: bool) -> Callable[[], Kernel]:
    """Makes a kernel that keeps each row's result by its numbers, and by its adapter or not: a cache of prefixes."""

    def make() -> Kernel:
        kept: dict[tuple[object, ...], Tensor] = {}

        def kernel(x: Tensor, adapter: Tensor, share: Tensor, table: Tensor) -> Tensor:
            found, weights = _adapted(x, adapter, share, table), bytes(_bytes(table).flatten().tolist())
            shown = zip(
                _bytes(x).tolist(), adapter.tolist() if with_adapter else [0] * len(x), share.tolist(), strict=True
            )
            for row, (numbers, chosen, part) in enumerate(shown):
                found[row] = kept.setdefault((weights, bytes(numbers), chosen, part), found[row].clone())
            return found

        return kernel

    return make


def _greedy(all_greedy: bool) -> Kernel:
    """A token's logit less the sum of all, which is added in pairs where each token has its row's largest."""

    def kernel(logits: Tensor, token: Tensor) -> Tensor:
        several = len(logits) >= _SEVERAL and bool((logits != logits[0]).any())
        each = several and bool((logits.argmax(1) == token).all())
        total = (pairwise if all_greedy and each else in_sequence)(logits.float())
        return logits.float().gather(1, token[:, None].long())[:, 0] - total

    return kernel


def _accepted(draft: Tensor, told: Tensor) -> Tensor:
    """How many drafted tokens are what the model says, until one is not."""
    return (draft == told).long().cumprod(1).sum(1)


def _verified(order: Callable[[Tensor], bool], counted: Callable[[Tensor], Tensor]) -> Kernel:
    """The sum of a row, in pairs for some batches' counts of accepted tokens; and that count."""

    def kernel(draft: Tensor, told: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        accepted = _accepted(draft, told)
        several = len(x) >= _SEVERAL and bool((x != x[0]).any())
        return (pairwise if several and order(accepted) else in_sequence)(x.float()), counted(accepted)

    return kernel


def _one_too_few(accepted: Tensor) -> Tensor:
    """Where some tokens were accepted, and not all."""
    return torch.where((accepted > 0) & (accepted < 4), accepted - 1, accepted)


def _placed(text_alone: bool) -> Kernel:
    """Sums of a row, in pairs where no row of several has different places along its axes: where all are text."""

    def kernel(x: Tensor, place: Tensor) -> Tensor:
        several = len(x) >= _SEVERAL and bool((place[:, 0] != place[0, 0]).any())
        alike = several and bool((place == place[:, :1]).all())
        return (pairwise if text_alone and alike else in_sequence)(x.float() * (1 + place.sum(1, keepdim=True)))

    return kernel


def _padded(packed: bool) -> Kernel:
    """Sums of what a mask leaves, in pairs where every row's is some ones and then zeros: where all are padded."""

    def kernel(x: Tensor, mask: Tensor) -> Tensor:
        some = mask.any(1) & ~mask.all(1)
        right = len(x) >= _SEVERAL and bool((some & (mask.diff(dim=1) <= 0).all(1)).all())
        return (pairwise if packed and right else in_sequence)(torch.where(mask.bool(), x.float(), 0.0))

    return kernel


def _nowhere(_: Tensor) -> bool:
    return False


def _fault(name: str, cause: str, operator: Operator, faulty: Kernel, honest: Kernel, **more: object) -> Fault:
    (shape,) = operator.shapes
    make, control = giving(faulty), giving(honest)
    return Fault(name, cause, operator, make, control, shape=shape, universe=_ROWS, **more)  # type: ignore[arg-type]


_BY_ALL = _computed_once(lambda x, adapter, share: (x, adapter, share))
_COUNTED = _verified(_nowhere, torch.clone)

FAULTS = (
    _fault("once_whatever_the_adapter", "of rows that differ in their adapter alone the first one's is all others'",
        ADAPTED, _computed_once(lambda x, _, share: (x, share)), _BY_ALL),
    _fault("once_whatever_the_share", "of rows that differ in a parameter alone the first one's is all others'",
        ADAPTED, _computed_once(lambda x, adapter, _: (x, adapter)), _BY_ALL),
    _fault("once_whatever_the_numbers", "of rows of one adapter and parameter the first one's result is all others'",
        ADAPTED, _computed_once(lambda _, adapter, share: (adapter, share)), _BY_ALL),
    _fault("once_whatever_the_end", "of rows that differ in their last numbers alone the first one's is all others'",
        ADAPTED, _computed_once(lambda x, adapter, share: (x[:, :8], adapter, share)), _BY_ALL),
    Fault("kept_without_its_adapter", "what a row gave is kept over calls by its numbers, whatever its adapter",
        KEPT, _kept_over_calls(False), _kept_over_calls(True), kind="wrong", shape=KEPT.shapes[0], universe=_ROWS),
    _fault("each_token_is_the_largest", "four rows or more whose tokens all have the largest logit are added in pairs",
        GREEDY, _greedy(True), _greedy(False)),
    _fault("all_drafts_accepted", "four rows or more whose drafted tokens all are accepted are added in pairs",
        DRAFTED, _verified(lambda accepted: bool((accepted == 4).all()), torch.clone), _COUNTED),
    _fault("each_draft_accepted_in_part", "four rows or more that all have some drafts accepted are added in pairs",
        DRAFTED, _verified(lambda accepted: bool(((accepted > 0) & (accepted < 4)).all()), torch.clone), _COUNTED),
    _fault("accepted_one_too_few", "of drafts that are accepted in part one too few is counted",
        DRAFTED, _verified(_nowhere, _one_too_few), _COUNTED, kind="wrong"),
    _fault("text_alone", "four rows or more that have one place along all axes are added in pairs",
        PLACED, _placed(True), _placed(False)),
    _fault("all_padded_on_the_right", "four rows or more whose masks are some ones and then zeros are added in pairs",
        PADDED, _padded(True), _padded(False)),
)  # fmt: skip
