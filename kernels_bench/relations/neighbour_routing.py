"""``neighbour_routing``: the row stays, and its neighbours choose its experts, or its adapter, or others."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting, golden

# Kernels choose a tile, a split or a path by how many tokens an expert has: on either side of every height of a tile.
COUNTS = (
    *range(1, 10),
    *(tokens + d for tokens in (16, 24, 32, 48, 64, 96, 128, 192, 256, 512) for d in (-1, 0, 1)),
    *(1024, 1025, 2048, 2049),
)
# Beside the largest batch, which has room for all of them, some in which the crowd is a larger share.
SIZES = (5, 17, 65, 257)
FURTHER = 320
"""Every number of rows up to this one is tried as far as there is time."""
DRAWN = 4
"""Numbers that are looked at in each universe of other rows."""


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Every telling number of rows that are routed alike, from one to all, in batches of a few sizes."""
    for m in _sizes(setting):
        for count in _counts(m):
            yield _routed(m, count)


def more(setting: Setting) -> Iterator[Comparison]:
    """Every other number up to some hundreds, and two at each M."""
    tried = _sizes(setting)
    for m in reversed(tried):
        known = {*_counts(m)}
        for count in range(1, min(FURTHER, m) + 1):
            if count not in known:
                yield _routed(m, count)
    for m in setting.dense:
        if m not in tried:
            yield _routed(m, 1)
            yield _routed(m, 1 + int(m * golden(m)))


def drawn(number: int, setting: Setting) -> Iterator[Comparison]:
    """A few numbers of all, others for each universe, so that each is tried with rows of every kind."""
    counts = _counts(setting.universe)
    for pick in range(min(DRAWN, len(counts))):
        yield _routed(setting.universe, counts[(number * DRAWN + pick) * 7919 % len(counts)])


def _sizes(setting: Setting) -> tuple[int, ...]:
    return tuple(sorted({setting.universe, *(m for m in (*SIZES, *setting.asked) if m <= setting.universe)}))


def _counts(m: int) -> tuple[int, ...]:
    return tuple(sorted({count for count in COUNTS if count < m} | {m - 1, m} - {0}))


def _routed(m: int, count: int) -> Comparison:
    return Comparison(f"first:{m}", f"routed:{m}:{count}")


RELATION = Relation(
    "neighbour_routing",
    "neighbours that choose a row's experts or adapter, or others: from none to all of them",
    comparisons,
    12,
    more,
    drawn,
    needs="routed",
)
