"""Ends of ranges, rare rows and regular rows: what an operator of one's own meets in an engine and seldom in a test."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.paged_attention import attend, decode_fault
from kernels_bench.faults.planted.sums import Sum, in_sequence, pairwise
from kernels_bench.operators import Operator
from kernels_bench.operators.defined import DefinedOperator
from kernels_bench.operators.definitions import floats, integers
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.records.cases import Shape

_SIXTEEN, _EIGHT, _SEVERAL = 16, 8, 4
_MOSTLY = 0.9
_LARGE, _LOW = 448.0, -1e4
_PAGES = Shape(label="fault", heads=1, kv_heads=1, k=8, page=16, tokens=65)

SCALED_ROWS = DefinedOperator.define(
    "planted_scaled_rows",
    rows={"x": ("d",)},
    shapes={"fault": {"d": 24}},
    results=("d",),
    reference=lambda x: x / x.abs().amax(1, keepdim=True).clamp(min=1e-6),
)

SHARES = DefinedOperator.define(
    "planted_shares",
    rows={"x": ("d",)},
    shapes={"fault": {"d": 24}},
    results=("d",),
    reference=lambda x: x.log_softmax(1),
)

PICKED = DefinedOperator.define(
    "planted_picked",
    rows={"positions": integers(high="n", dtype="int32")},
    shared={"table": ("n", "d")},
    shapes={"fault": {"n": 64, "d": 24}},
    results=("d",),
    reference=lambda positions, table: table[positions],
)

DRAWN = DefinedOperator.define(
    "planted_drawn",
    rows={"x": ("d",), "temperature": floats(low=0, high=2, dtype="fp32")},
    shapes={"fault": {"d": 24}},
    results=[floats(dtype="fp32")],
)

EMBEDDED = DefinedOperator.define(
    "planted_embedded",
    rows={name: integers(high="n") for name in ("tokens", "positions", "types")},
    shared={f"table_{number}": ("n", "d") for number in range(3)},
    shapes={"fault": {"n": 64, "d": 24}},
    results=("d",),
)


def _scaled(rows: Callable[[Tensor], Tensor]) -> Kernel:
    """Rows over their largest number, or over what takes its place."""

    def kernel(x: Tensor) -> Tensor:
        return x / rows(x.abs().amax(1, keepdim=True))

    return kernel


def _clipped(most: float) -> Kernel:
    def kernel(x: Tensor) -> Tensor:
        return (x / x.abs().amax(1, keepdim=True).clamp(min=1e-6)).where(x.abs() <= most, 0.5)

    return kernel


def _shares(least: float) -> Kernel:
    """Logarithms of shares; no logit is below the least."""

    def kernel(x: Tensor) -> Tensor:
        logits = x.double().clamp(min=least)
        return (logits - logits.logsumexp(1, keepdim=True)).to(x.dtype)

    return kernel


def _picked(place: Callable[[Tensor, int], Tensor]) -> Kernel:
    """A row of the table for each position, or for what takes its place."""

    def kernel(positions: Tensor, table: Tensor) -> Tensor:
        return table[place(positions.long(), len(table))]

    return kernel


def _rounded(where: Callable[[Tensor], bool]) -> Kernel:
    """A row of the table for each position, rounded to bf16 in some batches."""

    def kernel(positions: Tensor, table: Tensor) -> Tensor:
        found = table[positions.long()]
        return found.bfloat16().to(table.dtype) if where(positions) else found

    return kernel


def _in_a_row(positions: Tensor) -> bool:
    return len(positions) >= _SIXTEEN and bool((positions.diff() == 1).all())


def _from_the_first_on(positions: Tensor) -> bool:
    return len(positions) >= _EIGHT and positions.tolist() == list(range(len(positions)))


def _drawn(greedy: bool) -> Kernel:
    """Sums over a temperature; where several rows all have none, in pairs."""

    def kernel(x: Tensor, temperature: Tensor) -> Tensor:
        add = pairwise if greedy and len(x) >= _SEVERAL and not temperature.any() else in_sequence
        return add(x.float()) / temperature.clamp(min=1e-5)

    return kernel


def _sparse(sparse: bool) -> Kernel:
    """Sums, in pairs where nearly all numbers of some rows are zeros."""

    def kernel(x: Tensor, temperature: Tensor) -> Tensor:
        mostly = len(x) >= _EIGHT and float((x == 0).float().mean()) > _MOSTLY
        return (pairwise if sparse and mostly else in_sequence)(x.float()) / temperature.clamp(min=1e-5)

    return kernel


def _embedded(other: Callable[[int], bool]) -> Kernel:
    """Three embeddings, of which the last is added first at some M."""

    def kernel(tokens: Tensor, positions: Tensor, types: Tensor, *tables: Tensor) -> Tensor:
        one, two, three = (table[ids] for table, ids in zip(tables, (tokens, positions, types), strict=True))
        return one + (two + three) if other(len(tokens)) else one + two + three

    return kernel


def _left_out(seen: Callable[[PagedBatch, int], Tensor]) -> Callable[[], Kernel]:
    """Makes an attention that sees fewer keys of some sequences."""

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        kv = seen(batch, key_cache.shape[1])
        lengths = batch.lengths.clone()
        lengths[:, 1] = kv.cpu()
        fewer = batch._replace(seqused_k=kv.to(batch.seqused_k.dtype), lengths=lengths)
        return attend(q, key_cache, value_cache, fewer, in_sequence)

    return lambda: kernel


def _but_the_first_of_a_page(batch: PagedBatch, page: int) -> Tensor:
    """All keys but the newest, where it begins a page."""
    kv = batch.seqused_k
    return kv - ((kv % page == 1) & (kv > page)).to(kv.dtype)


def _up_to_page_0(batch: PagedBatch, page: int) -> Tensor:
    """All keys up to page 0, which is taken for no page, unless it is a sequence's first."""
    ends = torch.nn.functional.pad((batch.block_table[:, 1:] == 0).to(torch.int8), (0, 1), value=1)
    pages = ends.argmax(1) + 1
    return torch.minimum(batch.seqused_k.long(), pages * page)


def _sorted_from_the_longest(batch: PagedBatch) -> bool:
    kv = batch.lengths[:, 1]
    return len(kv) >= _SEVERAL and bool((kv.diff() <= 0).all()) and bool((kv != kv[0]).any())


def _by_lengths(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
    add: Sum = pairwise if _sorted_from_the_longest(batch) else in_sequence
    return attend(q, key_cache, value_cache, batch, add)


def _nowhere(_: Tensor) -> bool:
    return False


def _fault(name: str, cause: str, operator: Operator, faulty: Kernel, honest: Kernel, kind: str = "variant") -> Fault:
    (shape,) = operator.shapes
    return Fault(name, cause, operator, lambda: faulty, lambda: honest, kind, shape=shape)  # type: ignore[arg-type]


FAULTS = (
    _fault("nan_for_rows_of_zeros", "a row of zeros is divided by its largest number", SCALED_ROWS,
        _scaled(lambda largest: largest), _scaled(lambda largest: largest.clamp(min=1e-6)), "wrong"),
    _fault("outliers_are_clipped", "numbers beyond 448 have another result", SCALED_ROWS,
        _clipped(_LARGE), _clipped(torch.inf), "wrong"),
    _fault("masked_logits_are_low", "a masked logit is -10000 in place of -inf", SHARES,
        _shares(_LOW), _shares(-torch.inf), "wrong"),
    _fault("last_position_is_another", "of a table the last row but one is taken in place of the last", PICKED,
        _picked(lambda positions, n: positions.clamp(max=n - 2)), _picked(lambda positions, _: positions), "wrong"),
    _fault("position_0_is_padding", "position 0 is taken for padding, and is given the next one's row", PICKED,
        _picked(lambda positions, _: positions.clamp(min=1)), _picked(lambda positions, _: positions), "wrong"),
    _fault("sixteen_positions_in_a_row", "sixteen positions or more in a row are looked up in bf16", PICKED,
        _rounded(_in_a_row), _rounded(_nowhere)),
    _fault("positions_from_0_on", "eight positions or more from 0 on are looked up in bf16", PICKED,
        _rounded(_from_the_first_on), _rounded(_nowhere)),
    _fault("all_without_temperature", "four rows or more none of which has a temperature are added in pairs", DRAWN,
        _drawn(True), _drawn(False)),
    _fault("batch_of_nearly_all_zeros", "a batch of which nine tenths are zeros is added in pairs", DRAWN,
        _sparse(True), _sparse(False)),
    _fault("embeddings_in_another_order", "three embeddings are added from the last one on from 16 rows on", EMBEDDED,
        _embedded(lambda m: m >= _SIXTEEN), _embedded(lambda _: False)),
    Fault("first_key_of_a_page_left_out", "the newest key is left out where it is the first of a page",
        "attention_decode", _left_out(_but_the_first_of_a_page), _left_out(lambda batch, _: batch.seqused_k),
        "wrong", shape=_PAGES, universe=17),
    Fault("page_0_is_nobodys", "a sequence ends where its next page is page 0",
        "attention_decode", _left_out(_up_to_page_0), _left_out(lambda batch, _: batch.seqused_k),
        "wrong", shape=_PAGES, universe=17),
    decode_fault("sorted_from_the_longest", "four sequences or more, the longest first, are added in pairs",
        lambda: _by_lengths, shape=_PAGES),
)  # fmt: skip
