"""``large_batch``: more rows than the universe has, until offsets pass what few bits hold."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting, dense_sweep, spread

# Beyond what 9 to 17 bits count, by more than a tile: a long context's tokens at once are 131,072.
SIZES = tuple((1 << bits) + 64 for bits in range(9, 18))
FURTHEST, FIRST = 2048, 16
"""Up to so many rows, M beyond a small universe are tried as those within a large one are; so many of them first."""


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """The universe's rows over and over, half again as many."""
    m = setting.universe + setting.universe // 2 + 1
    if m <= setting.most:
        yield Comparison(f"first:{setting.universe}", f"cycled:{m}")


def more(setting: Setting) -> Iterator[Comparison]:
    """As many rows as N or K; M that a small universe has no room for, and up to 131,136; more than 2^31 elements."""
    whole, beyond = f"first:{setting.universe}", _beyond(setting)
    square = sorted(m for m in setting.shape_sizes if setting.universe < m <= setting.most)
    sizes = {m for m in SIZES if 2 * setting.universe < m <= setting.most}
    largest = sorted(sizes | ({setting.huge} if setting.huge else set()))
    for m in dict.fromkeys((*square, *beyond[:FIRST], *largest, *beyond[FIRST:])):
        yield Comparison(whole, f"cycled:{m}")
    if setting.far:
        yield Comparison(whole, f"far:{setting.universe}")


def _beyond(setting: Setting) -> list[int]:
    """M from the universe's on, those first that lie far from each other."""
    if setting.longest:
        return []
    sizes = [m for m in dense_sweep(FURTHEST) if setting.universe < m <= setting.most and m not in SIZES]
    return [*dict.fromkeys([*(sizes[place] for place in spread(len(sizes), FIRST)), *sizes])]


RELATION = Relation(
    "large_batch", "more rows than 16 bits count, and more elements than 31", comparisons, 16, more, hazardous=True
)
