"""Operators that users define: nothing knows them by name, and each has its own way to depend on a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault, giving
from kernels_bench.faults.planted.paged_attention import exponential
from kernels_bench.faults.planted.sums import in_sequence
from kernels_bench.faults.planted.sums import pairwise as in_pairs
from kernels_bench.operators import Operator
from kernels_bench.operators.defined import DefinedOperator
from kernels_bench.operators.definitions import floats, integers

_MANY, _LONG = 16, 48


def _silu(x: Tensor) -> Tensor:
    """In fp32, alike at every place of a tensor."""
    power = exponential(-x.abs())
    return x * torch.where(x < 0, power, 1.0) / (1 + power)


SILU_AND_MUL = DefinedOperator.define(
    "planted_silu_and_mul",
    rows={"x": ("2*d",)},
    shapes={"fault": {"d": 24}},
    reference=lambda x, d: x[:, :d] * x[:, :d].sigmoid() * x[:, d:],
)


def _silu_and_mul(rounded: Callable[[int], bool]) -> Kernel:
    """The gate is rounded before the product at some M, as where two kernels take the place of a fused one."""

    def kernel(x: Tensor) -> Tensor:
        gate, up = x.float().chunk(2, 1)
        gate = _silu(gate)
        return ((gate.to(x.dtype).float() if rounded(len(x)) else gate) * up).to(x.dtype)

    return kernel


def _flushing(chosen: Callable[[Tensor], bool]) -> Kernel:
    """Subnormal numbers of some batches are read as zeros."""
    usual = _silu_and_mul(_never)

    def kernel(x: Tensor) -> Tensor:
        found: Tensor = usual(torch.where(x.abs() < torch.finfo(x.dtype).tiny, 0.0, x) if chosen(x) else x)
        return found

    return kernel


ROTARY = DefinedOperator.define(
    "planted_rotary",
    rows={"x": ("heads", "2*h"), "positions": integers(high="longest", dtype="int32")},
    shared={"table": ("longest", "2*h")},
    shapes={"fault": {"heads": 2, "h": 4, "longest": 64}},
    results=("heads", "2*h"),
    overwrites=("x",),
)


def _rotary(scaled: bool) -> Kernel:
    """In place; scaled by the longest sequence of the batch, as dynamic NTK scaling has it."""

    def kernel(x: Tensor, positions: Tensor, table: Tensor) -> Tensor:
        scale = 0.75 if scaled and int(positions.max()) >= _LONG else 1.0
        cos, sin = (half[:, None] for half in (table[positions.long()] * scale).chunk(2, 1))
        one, other = x.chunk(2, 2)
        return x.copy_(torch.cat([one * cos - other * sin, other * cos + one * sin], 2))

    return kernel


TOP_EXPERTS = DefinedOperator.define(
    "planted_top_experts",
    rows={"logits": ("experts",)},
    shapes={"fault": {"experts": 12, "top": 3}},
    results=[integers("top", dtype="int32"), ("top",)],
)


def _top_experts(last: Callable[[int], bool]) -> Kernel:
    """Of equal logits the first expert's counts, at some M the last one's."""

    def kernel(logits: Tensor) -> tuple[Tensor, Tensor]:
        turned = last(len(logits))
        values, ids = torch.sort(logits.flip(1) if turned else logits, dim=1, descending=True, stable=True)
        ids = (logits.shape[1] - 1 - ids if turned else ids)[:, :3].int()
        return ids, values[:, :3].contiguous()

    return kernel


SCAN = DefinedOperator.define(
    "planted_scan", rows={"x": ("d",)}, shapes={"fault": {"d": 6}}, results=("d",), lengths=(1, 9)
)


@cache
def _chunked(chunk: Callable[[Tensor, Tensor], int]) -> Kernel:
    """Running sums in chunks, to which what was before each is added; how long these are is chosen for the batch."""

    def kernel(x: Tensor, cu_seqlens: Tensor) -> Tensor:
        width, parts = chunk(x, cu_seqlens), []
        for begin, end in pairwise(cu_seqlens.tolist()):
            before = torch.zeros_like(x[0], dtype=torch.float32)
            for first in range(begin, end, width):
                parts.append(before + _running(x[first : min(end, first + width)].float()))
                before = parts[-1][-1]
        return torch.cat(parts).to(x.dtype)

    return kernel


def _if_all_short(_: Tensor, cu_seqlens: Tensor) -> int:
    tokens = cu_seqlens.diff()
    return 2 if len(tokens) >= 4 and int(tokens.max()) <= 4 else 3


def _if_all_long(_: Tensor, cu_seqlens: Tensor) -> int:
    tokens = cu_seqlens.diff()
    return 2 if len(tokens) >= 4 and int(tokens.min()) >= 6 else 3


def _if_one_is_long(_: Tensor, cu_seqlens: Tensor) -> int:
    """As a prefill among decode steps."""
    tokens = cu_seqlens.diff()
    return 2 if len(tokens) >= 4 and int((tokens > 1).sum()) == 1 else 3


def _if_the_last_is_long(_: Tensor, cu_seqlens: Tensor) -> int:
    """As the only prefill is where engines sort decode steps first."""
    tokens = cu_seqlens.diff()
    return 2 if len(tokens) >= 4 and int(tokens[:-1].max()) == 1 < int(tokens[-1]) else 3


def _if_the_first_is_long(_: Tensor, cu_seqlens: Tensor) -> int:
    tokens = cu_seqlens.diff()
    return 2 if len(tokens) >= 4 and int(tokens[1:].max()) == 1 < int(tokens[0]) else 3


def _if_in_pairs(_: Tensor, cu_seqlens: Tensor) -> int:
    """As chosen and rejected answers that are padded alike."""
    tokens = cu_seqlens.diff()
    even = len(tokens) % 2 == 0 and bool((tokens[::2] == tokens[1::2]).all())
    return 2 if even and bool((tokens != tokens[0]).any()) else 3


def _if_of_one_length(x: Tensor, cu_seqlens: Tensor) -> int:
    """But not where all are the same sequence."""
    tokens, first = cu_seqlens.diff(), x[cu_seqlens[:-1].long()]
    alike = len(tokens) >= 3 and bool((tokens == tokens[0]).all()) and bool((first != first[0]).any())
    return 2 if alike else 3


def _if_of_whole_tiles(_: Tensor, cu_seqlens: Tensor) -> int:
    """Of two tokens, but not all of one length."""
    tokens = cu_seqlens.diff()
    whole = len(tokens) >= 4 and bool((tokens % 2 == 0).all())
    return 2 if whole and bool((tokens != tokens[0]).any()) else 3


def _always(_: Tensor, __: Tensor) -> int:
    return 3


def _scan(together: bool) -> Kernel:
    """A running sum of each sequence; or of all tokens, of which what came before a sequence is taken away."""

    def kernel(x: Tensor, cu_seqlens: Tensor) -> Tensor:
        ends = cu_seqlens.tolist()
        parts = [x] if together else [x[begin:end] for begin, end in pairwise(ends)]
        sums = torch.cat([_running(part.float()) for part in parts])
        if together:
            before = torch.cat([torch.zeros_like(sums[:1]), sums])[cu_seqlens[:-1].long()]
            sums = sums - before.repeat_interleave(cu_seqlens.diff().long(), 0)
        return sums.to(x.dtype)

    return kernel


def _running(x: Tensor) -> Tensor:
    total, found = torch.zeros_like(x[0]), []
    for token in x:
        total = total + token
        found.append(total)
    return torch.stack(found)


NEGATED = DefinedOperator.define(
    "planted_negated",
    rows={"x": ("d",)},
    shapes={"fault": {"d": 24}},
    results=("d",),
    reference=lambda x: -x,
    overwrites=("x",),
)


ADDED = DefinedOperator.define(
    "planted_added",
    rows={"x": ("d",), "y": ("d",)},
    shapes={"fault": {"d": 24}},
    results=("d",),
    reference=lambda x, y: x + y,
)


def _added(clamped: Callable[[int], bool]) -> Kernel:
    """Infinities of the second are the largest number at some M."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        most = torch.finfo(y.dtype).max
        return x + (torch.where(y.isinf(), y.sign() * most, y) if clamped(len(x)) else y)

    return kernel


MULTIPLIED = DefinedOperator.define(
    "planted_multiplied", rows={"x": ("d",), "y": ("d",)}, shapes={"fault": {"d": 24}}, results=[floats(dtype="fp32")]
)


def _multiplied(other: Callable[[Tensor, Tensor], bool]) -> Kernel:
    """The sum of products of two tensors, in pairs where they lie in memory otherwise than each other."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (in_pairs if len(x) > 1 and other(x, y) else in_sequence)(x.float() * y.float())

    return kernel


def _nowhere(_: Tensor, __: Tensor) -> bool:
    return False


def _unlike(x: Tensor, y: Tensor) -> bool:
    return x.stride(0) != y.stride(0)


def _of_one_tensor(x: Tensor, y: Tensor) -> bool:
    """As queries and keys that one projection gives."""
    return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()


POSITIONED = DefinedOperator.define(
    "planted_positioned",
    rows={"position": integers(high=64), "x": ("d",)},
    shared={"table": (64, "d")},
    shapes={"fault": {"d": 6}},
    results=("d",),
    lengths=(1, 9),
)


def _positioned(sliced: bool) -> Kernel:
    """Products with each position's line, rounded where every sequence begins anew and the table is but sliced."""

    def kernel(position: Tensor, x: Tensor, cu_seqlens: Tensor, table: Tensor) -> Tensor:
        lines = table[position.long()]
        whole = [position[begin:end] for begin, end in pairwise(cu_seqlens.tolist())]
        from_zero = all(torch.equal(one, torch.arange(len(one), device=one.device)) for one in whole)
        return x * (lines.bfloat16().to(x.dtype) if sliced and from_zero else lines)

    return kernel


LOOKED_UP = DefinedOperator.define(
    "planted_looked_up",
    rows={"ids": integers(high="n", dtype="int32")},
    shared={"table": ("n", "d")},
    shapes={"fault": {"n": 64, "d": 24}},
    results=("d",),
    reference=lambda ids, table: table[ids],
)


def _looked_up(buffers: Callable[[], dict[int, Tensor]]) -> Callable[[], Kernel]:
    """Makes a lookup whose result lies in a buffer, which is asked for in every call."""

    def make() -> Kernel:
        known = buffers()

        def kernel(ids: Tensor, table: Tensor) -> Tensor:
            found = table[ids.long()]
            return known.setdefault(len(ids), torch.empty_like(found)).copy_(found) if known is _BUFFERS else found

        return kernel

    return make


_BUFFERS: dict[int, Tensor] = {}


def _numbered(stray: bool) -> Kernel:
    """A lookup that is one thread's work too many: it counts the row after its last one, in place."""

    def kernel(ids: Tensor, table: Tensor) -> Tensor:
        end = ids.storage_offset() + ids.numel()
        if stray and end * ids.element_size() < ids.untyped_storage().nbytes():
            ids.as_strided((1,), (1,), end).add_(1).remainder_(len(table))
        return table[ids.long()]

    return kernel


SCALED = DefinedOperator.define(
    "planted_scaled",
    rows={"x": ("d",)},
    shared={"scale": (1,)},
    shapes={"fault": {"d": 24}},
    results=("d",),
    reference=lambda x, scale: x * scale,
)


def _scaled(once: bool) -> Callable[[], Kernel]:
    """Makes a product with a scale, which is read once, by its address."""

    def make() -> Kernel:
        known: dict[int, float] = {}

        def kernel(x: Tensor, scale: Tensor) -> Tensor:
            factor = known.setdefault(scale.data_ptr(), float(scale)) if once else float(scale)
            return (x.float() * factor).to(x.dtype)

        return kernel

    return make


def _negated(stray: bool) -> Kernel:
    """In place; the grid's last block writes the first element of what comes after its rows."""

    def kernel(x: Tensor) -> Tensor:
        end = x.storage_offset() + x.numel()
        x.neg_()
        if stray and end * x.element_size() < x.untyped_storage().nbytes():
            x.as_strided((1,), (1,), end).zero_()
        return x

    return kernel


def _never(m: int) -> bool:
    return False


def _from_many(m: int) -> bool:
    return m >= _MANY


def _fault(name: str, cause: str, operator: Operator, kernels: tuple[Kernel, Kernel], **more: object) -> Fault:
    """A kernel with the fault, and the same without it, of which neither remembers anything."""
    faulty, honest = kernels
    (shape,) = operator.shapes
    return Fault(
        name,
        cause,
        operator,
        giving(faulty),
        giving(honest),
        shape=shape,
        **more,  # type: ignore[arg-type]
    )


FAULTS = (
    _fault(
        "gate_rounded_from_16_rows", "the gate of an activation is rounded before its product from 16 rows on",
        SILU_AND_MUL, (_silu_and_mul(_from_many), _silu_and_mul(_never)), precision="bf16",
    ),
    _fault(
        "gates_flushed_from_16_rows", "subnormal numbers of gates are read as zeros from 16 rows on",
        SILU_AND_MUL, (_flushing(lambda x: _from_many(len(x))), _silu_and_mul(_never)),
    ),
    _fault(
        "gates_of_a_view_flushed", "subnormal numbers of gates are read as zeros in rows of a wider tensor",
        SILU_AND_MUL, (_flushing(lambda x: not x.is_contiguous()), _silu_and_mul(_never)),
    ),
    _fault(
        "rotary_scaled_by_the_longest", "a rotary embedding is scaled where some position of the batch is 48 or more",
        ROTARY, (_rotary(True), _rotary(False)),
    ),
    _fault(
        "ties_of_experts", "of equal logits the last expert is chosen from 16 rows on",
        TOP_EXPERTS, (_top_experts(_from_many), _top_experts(_never)),
    ),
    _fault(
        "scan_over_all_sequences", "running sums of packed sequences are differences of one over all of them",
        SCAN, (_scan(True), _scan(False)),
    ),
    _fault(
        "scan_of_short_sequences", "four sequences or more, none of which is long, are added in chunks of 2",
        SCAN, (_chunked(_if_all_short), _chunked(_always)),
    ),
    _fault(
        "scan_of_long_sequences", "four sequences or more, none of which is short, are added in chunks of 2",
        SCAN, (_chunked(_if_all_long), _chunked(_always)),
    ),
    _fault(
        "scan_of_one_long_sequence", "one longer sequence beside three or more of one token is added in chunks of 2",
        SCAN, (_chunked(_if_one_is_long), _chunked(_always)),
    ),
    _fault(
        "scan_of_a_last_long_sequence", "three or more sequences of one token before a longer one are added in "
        "chunks of 2", SCAN, (_chunked(_if_the_last_is_long), _chunked(_always)),
    ),
    _fault(
        "scan_of_a_first_long_sequence", "three or more sequences of one token after a longer one are added in "
        "chunks of 2", SCAN, (_chunked(_if_the_first_is_long), _chunked(_always)),
    ),
    _fault(
        "positions_from_zero", "a table is read in bf16 where the positions of every packed sequence begin anew",
        POSITIONED, (_positioned(True), _positioned(False)),
    ),
    _fault(
        "scan_of_pairs", "sequences of several lengths that stand there in pairs of one are added in chunks of 2",
        SCAN, (_chunked(_if_in_pairs), _chunked(_always)),
    ),
    _fault(
        "scan_of_one_length", "several sequences of one length are added in chunks of 2",
        SCAN, (_chunked(_if_of_one_length), _chunked(_always)),
    ),
    _fault(
        "scan_of_whole_tiles", "sequences of several lengths, all even, are added in chunks of 2",
        SCAN, (_chunked(_if_of_whole_tiles), _chunked(_always)),
    ),
    _fault(
        "infinity_of_the_second_clamped", "infinities of a second tensor are the largest number from 16 rows on",
        ADDED, (_added(_from_many), _added(_never)),
    ),
    _fault(
        "one_of_two_is_a_view", "sums are added in pairs where one of two tensors is a view and the other is not",
        MULTIPLIED, (_multiplied(_unlike), _multiplied(_nowhere)),
    ),
    _fault(
        "slices_of_one_tensor", "sums are added in pairs where both tensors are slices of one",
        MULTIPLIED, (_multiplied(_of_one_tensor), _multiplied(_nowhere)),
    ),
    Fault(
        "buffer_of_looked_up_rows", "rows that were looked up lie in a buffer that the next call writes",
        LOOKED_UP, _looked_up(lambda: _BUFFERS), _looked_up(dict), shape=LOOKED_UP.shapes[0],
    ),
    _fault(
        "writes_after_its_ids", "the whole number that follows a batch's own is written too",
        LOOKED_UP, (_numbered(True), _numbered(False)), kind="wrong",
    ),
    Fault(
        "scale_read_once", "a scale is read once, by its address",
        SCALED, _scaled(True), _scaled(False), shape=SCALED.shapes[0],
    ),
    _fault(
        "writes_after_its_rows", "an operator in place writes an element after its rows too",
        NEGATED, (_negated(True), _negated(False)), kind="wrong",
    ),
)  # fmt: skip
