"""The tiles that samebits' GEMM, row operators and attention may be computed in; no Triton, so a list loads none.

None of them is chosen here.  `plan` times them, sees which have the same bits, and says which to use at which M.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kernels_bench.operators.paged import FP8, PLAIN, VARIANT, operators_of

MOST_SHARED = 227 << 10
"""Bytes of shared memory that a block may have on SM90."""

GRAIN = 256
"""Parts of K end at multiples of it, which every tile's K divides: tiles of as many parts cut K at the same places."""


class Tile(NamedTuple):
    """How a GEMM is cut and computed.

    Attributes:
        m: rows of the result that a program computes.
        n: its columns.
        k: terms that are loaded at once.
        warps: of a program.
        stages: loads under way at once.
        swapped: compute the transposed product, so that columns lie where the matrix units want 64 rows: a program of
            few rows then uses the same instructions, and adds in the same order, as one of many.
        parts: K is cut into so many, a power of two, each is added up by itself, and their sums are added as a balanced
            binary tree.
    """

    m: int
    n: int
    k: int
    warps: int
    stages: int
    swapped: bool = False
    parts: int = 1

    @property
    def label(self) -> str:
        """Such as ``16x64x128w4s4-swapped-8parts``."""
        parts = f"-{self.parts}parts" if self.parts > 1 else ""
        return f"{self.m}x{self.n}x{self.k}w{self.warps}s{self.stages}{'-swapped' if self.swapped else ''}{parts}"

    def at(self, m: int) -> Tile:
        """Itself, or of a tile of few rows what stands in for it at more of them: `MANY_ROWS` in as many parts."""
        return MANY_ROWS._replace(parts=self.parts) if self.m < FEW_ROWS < m else self

    def shared_bytes(self, item_bytes: int) -> int:
        """Shared memory that the operands under way take."""
        return self.stages * (self.m + self.n) * self.k * item_bytes

    @property
    def order(self) -> str:
        """What is meant to be its order of addition."""
        return f"{self.parts} parts" if self.parts > 1 else "in one part"


FEW_ROWS = 16
"""Up to which a tile of fewer is any good: a weight is read again for each tile of rows."""

MANY_ROWS = Tile(64, 32, 32, 2, 3, swapped=True)
"""A tile of full precision for more rows."""

_WIDE = (
    *(Tile(128, 256, 64, 8, stages) for stages in (3, 4)),
    *(Tile(128, 128, 64, warps, 4) for warps in (4, 8)),
    Tile(64, 256, 64, 4, 4),
    *(Tile(64, 128, 64, 4, stages) for stages in (3, 4)),
    Tile(64, 64, 128, 4, 4),
)
_NARROW = (
    *(Tile(16, 64, k, 4, stages, swapped=True) for k, stages in ((64, 6), (128, 5), (256, 4))),
    *(Tile(16, 128, k, 4, stages, swapped=True) for k, stages in ((64, 6), (128, 4))),
    *(Tile(32, n, 128, 4, stages, swapped=True) for n, stages in ((64, 5), (128, 4))),
    Tile(64, 128, 64, 4, 5, swapped=True),
    # For rows that begin anywhere, which are loaded one element at a time: nothing is under way beside a program's
    # block, so that there are many programs, each with few columns and most of K at once.
    Tile(16, 16, 512, 4, 3, swapped=True),
    Tile(16, 32, 256, 4, 2, swapped=True),
)
_IN_PARTS = tuple(
    tile._replace(parts=parts)
    for parts in (2, 4, 8, 16)
    for tile in (
        Tile(16, 64, 128, 4, 4, swapped=True),
        Tile(32, 64, 128, 4, 5, swapped=True),
        Tile(64, 64, 128, 4, 3),
        Tile(64, 128, 64, 4, 4),
        Tile(128, 128, 64, 8, 4),
    )
)
TILES_16BIT = (*_WIDE, *_NARROW, *_IN_PARTS)
# Full precision runs on FMA units, with its operands in registers: smaller blocks.  Swapped, the threads of a warp lie
# along the rows of A, which are copied to lie side by side, so that a column's terms are read once for all of them; of
# one or two rows there is too little to copy.
_ONE_OR_TWO_FP32 = (
    *(Tile(1, 64, k, 2, 4) for k in (64, 128)),
    Tile(1, 32, 128, 1, 4),
    Tile(2, 64, 64, 2, 4),
)
_FEW_FP32 = (
    Tile(4, 16, 128, 1, 3, swapped=True),
    *(Tile(4, n, 128, 2, 3, swapped=True) for n in (32, 64)),
    Tile(8, 32, 128, 1, 3, swapped=True),
    Tile(8, 64, 128, 2, 3, swapped=True),
    Tile(16, 8, 32, 2, 3, swapped=True),
    Tile(16, 16, 64, 1, 3, swapped=True),
    Tile(16, 32, 64, 2, 3, swapped=True),
)
_MANY_FP32 = (
    Tile(32, 8, 32, 1, 3, swapped=True),
    Tile(32, 16, 64, 2, 3, swapped=True),
    Tile(64, 16, 32, 2, 3, swapped=True),
    MANY_ROWS,
    Tile(64, 32, 64, 4, 4, swapped=True),
    Tile(128, 16, 32, 4, 3, swapped=True),
    Tile(256, 32, 32, 8, 3, swapped=True),
)
_WHOLE_FP32 = (*_ONE_OR_TWO_FP32, *_FEW_FP32, *_MANY_FP32)
TILES_FP32 = (*_WHOLE_FP32, *(tile._replace(parts=parts) for parts in (2, 4, 8) for tile in _WHOLE_FP32))


def tiles() -> Mapping[str, tuple[Tile, tuple[str, ...]]]:
    """Every tile that fits in shared memory and the dtypes that it is for, by label."""
    found: dict[str, tuple[Tile, tuple[str, ...]]] = {}
    for tile, dtype in _fitting():
        _, dtypes = found.get(tile.label, (tile, ()))
        found[tile.label] = tile, (*dtypes, dtype)
    return found


def _fitting() -> Iterator[tuple[Tile, str]]:
    for known, dtypes, item_bytes in ((TILES_16BIT, ("bf16", "fp16"), 2), (TILES_FP32, ("fp32",), 4)):
        for tile in known:
            if tile.shared_bytes(item_bytes) <= MOST_SHARED:
                yield from ((tile, dtype) for dtype in dtypes)


class RowTile(NamedTuple):
    """How a norm, a softmax or a mean is cut and computed.

    Attributes:
        lanes: that a row's columns are added to, and columns that are loaded at once: a power of two.
        warps: of a program.
        rows: that a program computes, one after the other.
    """

    lanes: int
    warps: int
    rows: int = 1

    @property
    def label(self) -> str:
        """Such as ``1024lanes-w4-2rows``."""
        return f"{self.lanes}lanes-w{self.warps}" + (f"-{self.rows}rows" if self.rows > 1 else "")

    @property
    def order(self) -> str:
        """What is meant to be its order of addition."""
        return f"{self.lanes} lanes"


ROWS = ("rms_norm", "fused_add_rms_norm", "softmax", "log_softmax", "mean")
"""Operators of which there are candidates in row tiles."""

ROW_TILE = RowTile(1024, 4)
"""What the arm itself takes for every row, and of which there is no candidate."""

ROW_TILES = {
    tile.label: tile
    for tile in (
        *(RowTile(128, 1, rows) for rows in (1, 4)),
        *(RowTile(256, warps) for warps in (1, 2)),
        RowTile(256, 2, 4),
        *(RowTile(1024, warps) for warps in (1, 2, 8)),
        *(RowTile(1024, warps, 4) for warps in (2, 4)),
        *(RowTile(4096, warps) for warps in (4, 8, 16)),
        RowTile(4096, 8, 2),
    )
}
"""By label."""


class AttentionTile(NamedTuple):
    """How the keys of attention are cut.

    Attributes:
        split: keys of a program; the splits of a query are joined in ascending order.
        block: keys that are added up at once, a power of two that divides ``split``.
        warps: of a program.
    """

    split: int
    block: int
    warps: int

    @property
    def label(self) -> str:
        """Such as ``1024keys-by64-w4``."""
        return f"{self.split}keys-by{self.block}-w{self.warps}"

    @property
    def order(self) -> str:
        """What is meant to be its order of addition."""
        return f"splits of {self.split} keys by {self.block}"


ATTENTION = operators_of(PLAIN, VARIANT, FP8)
"""Operators of which there are candidates in tiles of keys."""

ATTENTION_TILE = AttentionTile(1024, 64, 4)
"""What the arm itself takes, and of which there is no candidate."""

ATTENTION_TILES = {
    tile.label: tile
    for tile in (
        *(AttentionTile(split, 64, 4) for split in (256, 512, 2048, 4096, 1 << 20)),
        *(AttentionTile(split, 128, 8) for split in (256, 512, 1024, 2048, 4096)),
        *(AttentionTile(split, 64, 8) for split in (512, 1024)),
        AttentionTile(1024, 128, 4),
        AttentionTile(1024, 32, 4),
    )
}
"""By label; a split of 1 << 20 keys is one program's whole sequence."""


class CpuTile(NamedTuple):
    """How a GEMM, a norm, a softmax or a mean is computed in plain torch.

    Attributes:
        rows: of the result that are computed at once, each by itself.
        parts: as of `Tile`.
    """

    rows: int
    parts: int = 1

    @property
    def label(self) -> str:
        """Such as ``16rows-2parts``."""
        return f"{self.rows}rows" + (f"-{self.parts}parts" if self.parts > 1 else "")

    @property
    def order(self) -> str:
        """What is meant to be its order of addition."""
        return f"{self.parts} parts" if self.parts > 1 else "in one part"


CPU_TILES = {tile.label: tile for tile in (CpuTile(4), CpuTile(32), CpuTile(4, 2), CpuTile(32, 2))}
"""By label."""


class CpuAttentionTile(NamedTuple):
    """How attention is computed in plain torch.

    Attributes:
        block: keys that are folded together, a power of two.
        lines: queries that are computed at once, each by itself.
    """

    block: int
    lines: int

    @property
    def label(self) -> str:
        """Such as ``16keys-4lines``."""
        return f"{self.block}keys-{self.lines}lines"

    @property
    def order(self) -> str:
        """What is meant to be its order of addition."""
        return f"by {self.block} keys"


CPU_ATTENTION_TILE = CpuAttentionTile(16, 1 << 20)
"""What the arm itself takes, and of which there is no candidate."""

CPU_ATTENTION_TILES = {tile.label: tile for tile in (CpuAttentionTile(16, 4), CpuAttentionTile(64, 4))}
"""By label."""
