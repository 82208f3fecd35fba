"""``concurrency``: beside another launch of the same kernel at the same time, or while the result is still in use."""

from collections.abc import Iterable, Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting

# So often, since on a busy machine two calls need not meet.
TIMES = 2
LARGEST = 65


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """A few sizes, several times each, and one large one, as large as leaves room for others beside it.

    Then results that are looked at only once another call was made: a kernel may have put that one's in their place.
    Of sequences these alone, and few.
    """
    small = [m for m in setting.few if m <= LARGEST]
    if setting.longest:
        yield from _kept(small[::-2])
        return
    many = min(setting.universe, setting.most or LARGEST)
    sizes = [*small, many] if many > LARGEST else small
    for m in sizes:
        yield from _at_once(m)
    yield from _kept(sizes)


def more(setting: Setting) -> Iterator[Comparison]:
    """Sizes between those, too; of sequences, two calls at once at these sizes first, as far as there is room."""
    few = [m for m in setting.few if m <= LARGEST] if setting.longest else []
    for m in (*few, *setting.between):
        if not setting.longest or m <= (setting.most or LARGEST):
            yield from _at_once(m)
        if m in setting.between:
            yield from _kept([m])


def _at_once(m: int) -> Iterator[Comparison]:
    yield from [Comparison(f"first:{m}", f"first:{m}", launch="concurrent")] * TIMES


def _kept(sizes: Iterable[int]) -> Iterator[Comparison]:
    for m in sizes:
        yield Comparison(f"first:{m}", f"first:{m}", launch="kept")


# The memory in which attention keeps partial results belongs to whoever calls it (a wrapper's workspace, a backend's
# metadata) and may be for one call at a time: that two at once disturb each other there is the callers' to prevent,
# unless a kernel claims otherwise.
RELATION = Relation(
    "concurrency",
    "beside another call, on another stream or thread, and looked at after one",
    comparisons,
    13,
    more,
    optional_of="sequences",
    callers=("concurrent",),
)
