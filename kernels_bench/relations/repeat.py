"""``repeat``: the same batch again."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting

TIMES = 3
CALLS = 3300
"""What shows, with 99 %, a difference that comes in one call of 700."""
OFTEN = (16, 1, 64, 5)


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """The universe, whose first launch was the first of all, and each telling size, the few smaller ones thrice."""
    few = setting.few
    whole = f"first:{setting.universe}"
    yield Comparison(whole, whole)
    for m in setting.telling:
        yield from [Comparison(f"first:{m}", f"first:{m}")] * (TIMES if m in few and m < setting.universe else 1)


def more(setting: Setting) -> Iterator[Comparison]:
    """A small batch and the universe thousands of times each, then others."""
    often = [m for m in OFTEN if m <= setting.universe]
    for m in (often[0], setting.universe):
        yield from [Comparison(f"first:{m}", f"first:{m}")] * CALLS
    for m in often[1:]:
        yield from [Comparison(f"first:{m}", f"first:{m}")] * (CALLS // 10)


RELATION = Relation("repeat", "the same batch again, thousands of times", comparisons, 0, more)
