"""``tensor_parallel``: the same rows, of which each of more or fewer ranks has a part."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting

SIZES = (1, 2, 4, 8)


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """A few numbers of rows, at every TP size against the shape's."""
    for m in setting.few:
        yield from _at_every_size(m, setting)


def drawn(number: int, setting: Setting) -> Iterator[Comparison]:
    """One of these numbers of rows, of other data."""
    yield from _at_every_size(setting.few[number % len(setting.few)], setting)


def _at_every_size(m: int, setting: Setting) -> Iterator[Comparison]:
    for ranks in SIZES:
        if ranks <= setting.ranks:
            yield Comparison(f"first:{m}", f"tp:{m}:{ranks}")


# Engines promise the same bits beside any other requests, and at another TP size none: that is another sum.
RELATION = Relation(
    "tensor_parallel",
    "the same rows split over 1, 2, 4 and 8 ranks",
    comparisons,
    order=18,
    drawn=drawn,
    needs="sharded",
    optional=True,
)
