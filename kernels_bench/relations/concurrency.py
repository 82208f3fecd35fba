"""``concurrency``: beside another launch of the same kernel at the same time, or while the result is still in use."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting

# So often, since on a busy machine two calls need not meet.
TIMES = 2
LARGEST = 65


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """A few sizes, several times each, and one large one, as large as leaves room for others beside it.

    Then results that are looked at only once another call was made: a kernel may have put that one's in their place.
    """
    small = [m for m in setting.few if m <= LARGEST]
    many = min(setting.universe, setting.most or LARGEST)
    sizes = [*small, many] if many > LARGEST else small
    for m in sizes:
        yield from [Comparison(f"first:{m}", f"first:{m}", launch="concurrent")] * TIMES
    for m in sizes:
        yield Comparison(f"first:{m}", f"first:{m}", launch="kept")


def more(setting: Setting) -> Iterator[Comparison]:
    """Sizes between those, too."""
    for m in setting.between:
        yield from [Comparison(f"first:{m}", f"first:{m}", launch="concurrent")] * TIMES
        yield Comparison(f"first:{m}", f"first:{m}", launch="kept")


# The memory in which attention keeps partial results belongs to whoever calls it (a wrapper's workspace, a backend's
# metadata) and is for one call at a time: that two at once disturb each other there is no fault of the kernel.
RELATION = Relation(
    "concurrency",
    "beside another call, on another stream or thread, and looked at after one",
    comparisons,
    13,
    more,
    only_rows=True,
)
