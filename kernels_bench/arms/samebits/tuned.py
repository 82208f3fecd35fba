"""The tiles of samebits' GEMMs and row operators by M, from plans for the device at hand; elsewhere one for all M.

A table is what ``plan export --to samebits`` wrote of a plan, one file a plan in ``tables/``.  All tiles of one shape
are of one class of the plan: which of them is used at which M changes no bit.
"""

from __future__ import annotations

import importlib.metadata
import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce, wraps
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from kernels_bench.arms.base import Kernel
from kernels_bench.arms.samebits.tiles import MANY_ROWS, ROW_TILES, RowTile, Tile, tiles
from kernels_bench.device.lazy_torch import torch
from kernels_bench.records.cases import torch_dtype

TABLES = Path(__file__).parent / "tables"
ROW_DIMS = 2
T = TypeVar("T")


class Size(NamedTuple):
    """What a table is looked up by: columns of the result, the length that is added up, and the inputs' dtype."""

    n: int
    k: int
    dtype: str


class RowSize(NamedTuple):
    """Likewise of a row operator: elements of a row."""

    operator: str
    k: int
    dtype: str


@dataclass(frozen=True)
class Ranges(Generic[T]):
    """The tiles of one shape.

    Attributes:
        tiles: by M ascending.
        lasts: the largest M of each range but the last, which has no end.
    """

    tiles: tuple[T, ...]
    lasts: tuple[int, ...]

    @classmethod
    def read(cls, said: Sequence[tuple[int | None, str]], known: Mapping[str, T]) -> Ranges[T]:
        """The tiles of some ranges' labels."""
        lasts = tuple(last for last, _ in said if last is not None)
        return cls(tuple(known[label] for _, label in said), lasts)

    def at(self, m: int) -> T:
        """The tile for M rows."""
        return self.tiles[bisect_left(self.lasts, m)]


FULL_PRECISION = Ranges(
    (
        Tile(4, 16, 128, 1, 3, swapped=True),
        Tile(8, 32, 128, 1, 3, swapped=True),
        Tile(16, 16, 64, 1, 3, swapped=True),
        MANY_ROWS,
    ),
    (4, 8, 32),
)
"""The tiles of fp32 products that no table has, on a device that has one.

Like `gemm`'s own each adds all of K up in one part, one term after the other, so that the bits are the same; the plans
of such a device prove it of some shapes.
"""


@dataclass(frozen=True)
class Table:
    """The tiles of one device.

    Attributes:
        device: its name.
        triton: the version that they were verified and timed with.
        plans: the first 16 hex digits of the SHA-256 of each plan's file.
        ranges: linears', by shape.
        rows: row operators', likewise.
    """

    device: str
    triton: str
    plans: tuple[str, ...]
    ranges: Mapping[Size, Ranges[Tile]]
    rows: Mapping[RowSize, Ranges[RowTile]] = field(default_factory=dict)


def read_table(file: Path) -> Table:
    """A table of a file.

    Raises:
        KeyError: it names a tile that there is not.
    """
    said, known = json.loads(file.read_text(encoding="utf-8")), {label: tile for label, (tile, _) in tiles().items()}
    ranges = {
        Size(one["n"], one["k"], one["dtype"]): Ranges.read(one["tiles"], known) for one in said["shapes"]
    }  # fmt: skip
    rows = {
        RowSize(one["operator"], one["k"], one["dtype"]): Ranges.read(one["tiles"], ROW_TILES)
        for one in said.get("rows", ())
    }
    return Table(said["device"], said["triton"], (said["plan"],), ranges, rows)


def table_for(device: str, folder: Path = TABLES) -> Table | None:
    """All tables for a device as one, but those of another Triton than compiles their tiles now, unverified with it.

    Args:
        device: its name.
        folder: where tables are; where two have one shape, that of the last file by name counts.
    """
    now = importlib.metadata.version("triton")
    tables = map(read_table, sorted(folder.glob("*.json")))
    return reduce(_both, (table for table in tables if table.device == device and table.triton == now), None)


def _both(first: Table | None, other: Table) -> Table:
    if first is None:
        return other
    ranges, rows = {**first.ranges, **other.ranges}, {**first.rows, **other.rows}
    return Table(first.device, first.triton, (*first.plans, *other.plans), ranges, rows)


def gemms_of(table: Table) -> dict[str, Kernel]:
    """mm, addmm and linear, with and without a bias: `gemm`'s, with other tiles where the table's device is known.

    A linear has the table's tiles where the table has its shape; elsewhere full precision has `FULL_PRECISION`'s.
    """
    from kernels_bench.arms.samebits.triton import gemm, tiles

    by_size = {(size.n, size.k, torch_dtype(size.dtype)): ranges for size, ranges in table.ranges.items()}
    usual = {torch.float32: FULL_PRECISION}

    def linear(
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        *,
        out_dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        ranges = by_size.get((*weight.shape, x.dtype), usual.get(x.dtype))
        if ranges is None:
            return gemm.linear(x, weight, bias, out_dtype=out_dtype)
        return tiles.linear(ranges.at(len(x)), x, weight, bias, out_dtype=out_dtype)

    def mm(a: torch.Tensor, b: torch.Tensor, *, out_dtype: torch.dtype | None = None) -> torch.Tensor:
        if a.dtype not in usual:
            return gemm.mm(a, b, out_dtype=out_dtype)
        return tiles.mm(usual[a.dtype].at(len(a)), a, b, out_dtype=out_dtype)

    def addmm(
        bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, out_dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        if a.dtype not in usual:
            return gemm.addmm(bias, a, b, out_dtype=out_dtype)
        return tiles.addmm(usual[a.dtype].at(len(a)), bias, a, b, out_dtype=out_dtype)

    return {"mm": mm, "addmm": addmm, "linear": linear, "linear_bias": linear}


def rows_of(table: Table) -> dict[str, Kernel]:
    """The row operators that the table has, with its tiles where it has the row's length."""
    return {operator: _row_kernel(operator, table) for operator in dict.fromkeys(size.operator for size in table.rows)}


def _row_kernel(operator: str, table: Table) -> Kernel:
    from kernels_bench.arms.samebits.triton import rows

    usual: Kernel = getattr(rows, operator)
    mine = {(size.k, torch_dtype(size.dtype)): by_m for size, by_m in table.rows.items() if size.operator == operator}

    @wraps(usual)  # whose parameters say whether a result of another dtype can be asked for
    def kernel(x: torch.Tensor, *others: Any, **named: Any) -> Any:
        same_dtype = named.get("out_dtype") in (None, x.dtype)
        by_m = mine.get((x.shape[-1], x.dtype)) if x.ndim == ROW_DIMS and same_dtype else None
        return usual(x, *others, **named) if by_m is None else usual(x, *others, **named, tile=by_m.at(len(x)))

    return kernel
