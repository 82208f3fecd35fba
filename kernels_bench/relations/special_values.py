"""``special_values``: rows of subnormal numbers, signed zeros, infinities, NaN, masks and outliers are compared too."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting
from kernels_bench.relations.batch import SPECIAL

# Special rows are moved on by fewer than so many places, so that each stands beside others at another M.
MOVED = 7


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Among ordinary rows at the usual sizes, and each alone, against all of them by themselves."""
    count = len(SPECIAL)
    together = f"special:{count}:0"
    for number in range(count):
        yield Comparison(together, f"special:1:{number}")
    for m in _usual(setting):
        # Where not all of them have room, others are there the second time.
        for moved in (m % MOVED,) if m >= count else (0, 3) if m > 1 else ():
            yield Comparison(together, f"special:{m}:{moved}")


def more(setting: Setting) -> Iterator[Comparison]:
    """At every M up to some hundreds, and at many beyond."""
    usual = _usual(setting)
    for m in setting.dense:
        if m not in usual:
            yield Comparison(f"special:{len(SPECIAL)}:0", f"special:{m}:{m}")


def _usual(setting: Setting) -> tuple[int, ...]:
    """Every M that is looked at in every run."""
    return setting.telling if setting.longest else setting.sizes


RELATION = Relation(
    "special_values",
    "rows of subnormal numbers, signed zeros, infinities, NaN, masks and outliers, at every M",
    comparisons,
    9,
    more,
)
