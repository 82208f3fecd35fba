"""A plan as a table of tiles: of vLLM 0.33's batch-invariant GEMM, with what is proven of it, and of samebits' own.

That kernel adds K up in blocks of one size, in ascending order, whatever its tile's other sizes are: so a plan can be
told it where its kernels are Triton tiles of one K.  vLLM's file is ``model_executor/determinism/
batch_invariant_configs.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from kernels_bench.arms.samebits.tiles import ROW_TILES, ROWS, tiles
from kernels_bench.plan.record import Basis, CasePlan, Plan
from kernels_bench.records.cases import label_of, process_of
from profiles.run_files.record import Record

_TILE = re.compile(r"(?P<m>\d+)x(?P<n>\d+)x(?P<k>\d+)w(?P<warps>\d+)s(?P<stages>\d+)")


class TritonTile(NamedTuple):
    """One program's share of a GEMM in Triton, and how it is pipelined; as a label ``MxNxKwWsS``."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


def tile_of(name: str) -> TritonTile | None:
    """The tile of a kernel of the name ``ARM[MxNxKwWsS]``; None where the name tells none, or tells more than that."""
    found = _TILE.fullmatch(label_of(name))
    return None if found is None else TritonTile(*map(int, found.groups()))


OPERATOR, DTYPE = "linear", "bf16"
"""What vLLM looks up in its table, whatever the bias."""

FAMILIES: Mapping[tuple[int, int], str] = {(8, 9): "ada"} | {
    (major, minor): name for major, name in ((9, "hopper"), (10, "blackwell"), (12, "sm120")) for minor in range(10)
}
"""What vLLM's table calls GPUs, by compute capability."""

UNTRIED = (
    "digests are of samebits' kernels with these tiles; vLLM's own kernel with the same tiles was not run, and is to "
    "be verified there: python -m kernels_bench --op linear --arm vllm"
)


class Entry(NamedTuple):
    """One shape's row of the table.

    Attributes:
        case: of the plan.
        block_k: terms of K that are loaded at once, at every M.
        buckets: for each range of M its largest, and the tile; above the last one the last holds.
    """

    case: CasePlan
    block_k: int
    buckets: tuple[tuple[int, TritonTile], ...]


class Skipped(Record):
    """A case that the table cannot say.

    Attributes:
        key: the case's.
        reason: a sentence's end.
    """

    key: str
    reason: str


class ShapeProof(Record):
    """What is known of one shape's bits.

    Attributes:
        n: columns of the result.
        k: the length that is added up.
        basis: see `kernels_bench.plan.record.BitClass`.
        order: in words; empty where it is not known.
        sizes: each M at which results were digested.
        digests: of these, by M.
        kernels: the plan's, by the smallest M of each range.
    """

    n: int
    k: int
    basis: Basis
    order: str
    sizes: tuple[int, ...]
    digests: dict[int, str]
    kernels: dict[int, str]


class Proof(Record):
    """What stands beside an exported table.

    Attributes:
        schema_version: of this file.
        to: whose table it is.
        device: the plan is for.
        versions: of the libraries that it was made with.
        source_digest: of the samebits that made it.
        created: when the plan was made.
        universe: of how many rows each case's batches were chosen.
        untried: what nobody has seen yet.
        shapes: those in the table.
        skipped: those that are not, and why.
    """

    schema_version: Literal[1] = 1
    to: Literal["vllm"] = "vllm"
    device: str
    versions: dict[str, str]
    source_digest: str
    created: str
    universe: int
    untried: str = UNTRIED
    shapes: tuple[ShapeProof, ...]
    skipped: tuple[Skipped, ...]


def expressible(plan: Plan) -> tuple[tuple[Entry, ...], tuple[Skipped, ...]]:
    """The cases that vLLM's table can say, and the others."""
    entries: list[Entry] = []
    skipped: list[Skipped] = []
    for case in plan.cases:
        reason = _why_not(case)
        if reason:
            skipped.append(Skipped(key=case.key, reason=reason))
        else:
            entries.append(_entry(case))
    return tuple(entries), tuple(skipped)


def _why_not(case: CasePlan) -> str:
    if case.operator != OPERATOR or str(case.precision) != DTYPE:
        return f"the table is for {OPERATOR} in {DTYPE}"
    if case.chosen is None:
        return "the plan has no kernel for it"
    names = dict.fromkeys(one.arm for one in case.stretches)
    if untold := [name for name in names if tile_of(name) is None]:
        return f"{' and '.join(untold)} is no Triton tile that vLLM's kernel can be told"
    depths = {tile.k for name in names if (tile := tile_of(name)) is not None}
    return (
        "" if len(depths) == 1 else f"its tiles' K is {' and '.join(map(str, sorted(depths)))}, and the table has one"
    )


def _entry(case: CasePlan) -> Entry:
    assert case.chosen is not None
    buckets = []
    for one in case.stretches:
        tile = tile_of(one.arm)
        assert tile is not None
        # The last range has no end; vLLM takes its last row from there on.
        buckets.append((one.last if one.last is not None else max(one.first, *case.chosen.sizes), tile))
    return Entry(case, buckets[0][1].k, tuple(buckets))


def as_source(plan: Plan, entries: Sequence[Entry]) -> Iterator[str]:
    """The lines of vLLM's table for one family of GPUs.

    Raises:
        ValueError: vLLM has no table for the plan's device.
    """
    capability = plan.device.capability
    family = FAMILIES.get(capability) if capability is not None else None
    if family is None:
        raise ValueError(f"vLLM has no table for {plan.device.name}: it has them from compute capability 8.9 on")
    yield f'    "{family}": {{'
    for entry in sorted(entries, key=lambda one: (one.case.shape.columns, one.case.shape.k)):
        yield f"        ({entry.case.shape.columns}, {entry.case.shape.k}): _MatmulShapeConfig("
        yield f"            block_k={entry.block_k},"
        yield "            m_buckets=("
        for most, tile in entry.buckets:
            yield f"                ({most}, _MatmulMConfig({tile.m}, {tile.n}, {tile.warps}, {tile.stages})),"
        yield "            ),"
        yield "        ),"
    yield "    },"


ARM = "samebits"


class TunedShape(Record):
    """One shape's row of samebits' own table.

    Attributes:
        n: columns of the result.
        k: the length that is added up.
        dtype: of inputs and result.
        tiles: for each range of M its largest, None of the last, and the label of the candidate.
    """

    n: int
    k: int
    dtype: str
    tiles: tuple[tuple[int | None, str], ...]


class TunedRows(Record):
    """One row operator's tiles at rows of one length.

    Attributes:
        operator: such as ``rms_norm``.
        k: elements of a row.
        dtype: of inputs and result.
        tiles: as of `TunedShape`.
    """

    operator: str
    k: int
    dtype: str
    tiles: tuple[tuple[int | None, str], ...]


class TunedTable(Record):
    """Which tile samebits' own arm takes at which M on one device, as `kernels_bench.arms.samebits.tuned` reads it.

    Attributes:
        device: the plan is for.
        triton: the version that it was made with.
        plan: the first 16 hex digits of the SHA-256 of its file.
        shapes: linears whose kernels are all samebits' tiles.
        rows: norms, softmaxes and means likewise.
    """

    device: str
    triton: str
    plan: str
    shapes: tuple[TunedShape, ...]
    rows: tuple[TunedRows, ...] = ()


def tuned(plan: Plan, digest: str) -> tuple[TunedTable, tuple[Skipped, ...]]:
    """The cases of a plan that samebits' own table can say, and the others.

    Args:
        plan: made with ``--arm samebits``, whose kernels are then samebits' alone.
        digest: of the plan's file.
    """
    shapes: list[TunedShape] = []
    rows: list[TunedRows] = []
    skipped: list[Skipped] = []
    for case in plan.cases:
        labels = tuple((one.last, label_of(one.arm)) for one in case.stretches)
        size = {"k": case.shape.k, "dtype": case.precision.input, "tiles": labels}
        if reason := _why_not_tuned(case):
            skipped.append(Skipped(key=case.key, reason=reason))
        elif case.operator == OPERATOR:
            shapes.append(TunedShape.model_validate({"n": case.shape.columns, **size}))
        else:
            rows.append(TunedRows.model_validate({"operator": case.operator, **size}))
    version = dict(plan.environment.versions).get("triton", "")
    table = TunedTable(device=plan.device.name, triton=version, plan=digest, shapes=tuple(shapes), rows=tuple(rows))
    return table, tuple(skipped)


def _why_not_tuned(case: CasePlan) -> str:
    """Why samebits' own table cannot say a case, as a sentence's end; empty where it can."""
    names = [one.arm for one in case.stretches]
    foreign = [name for name in names if process_of(name) != ARM or not label_of(name)]
    if case.operator not in (OPERATOR, *ROWS) or case.precision.input != case.precision.output:
        return f"the table is for {OPERATOR} and row operators, of one dtype"
    if case.chosen is None:
        return "the plan has no kernel for it"
    if foreign:
        return f"{', '.join(foreign)} is no tile of samebits'"
    known = {tile.label: tile.order for tile in ROW_TILES.values()} if case.operator in ROWS else _linear_orders()
    if unknown := [name for name in names if label_of(name) not in known]:
        return f"this samebits has no tile {', '.join(unknown)}"
    # Equal digests of tiles that are not meant to add in one order are luck, and not for an arm to build on.
    orders = dict.fromkeys(known[label_of(name)] for name in names)
    return "" if len(orders) == 1 else f"its tiles are meant to add in several orders: {', '.join(orders)}"


def _linear_orders() -> dict[str, str]:
    return {label: tile.order for label, (tile, _) in tiles().items()}


def proof(plan: Plan, entries: Sequence[Entry], skipped: Sequence[Skipped]) -> Proof:
    """What is known of the bits of a table's shapes."""
    return Proof(
        device=plan.device.name,
        versions=dict(plan.environment.versions),
        source_digest=plan.environment.source_digest,
        created=plan.created,
        universe=plan.universe,
        shapes=tuple(_shape(entry.case) for entry in entries),
        skipped=tuple(skipped),
    )


def _shape(case: CasePlan) -> ShapeProof:
    assert case.chosen is not None
    return ShapeProof(
        n=case.shape.columns,
        k=case.shape.k,
        basis=case.chosen.basis,
        order=case.chosen.order,
        sizes=case.chosen.sizes,
        digests=case.chosen.digests,
        kernels={one.first: one.arm for one in case.stretches},
    )
