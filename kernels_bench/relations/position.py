"""``position``: the same rows in another order."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting

# A rotation by P puts row 0 at P and moves every other row: on either side of the edges that tiles have.
EDGES = (1, 8, 16, 63, 64, 128)


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Shuffled at each telling size; reversed, shuffled again and rotated to tile edges at each of a few."""
    few = setting.few
    for m in setting.telling:
        if m == 1:
            continue
        yield Comparison(f"first:{m}", f"shuffle:{m}:0")
        if m in few:
            for spec in (f"reverse:{m}", f"shuffle:{m}:1", *(f"rotate:{m}:{edge}" for edge in EDGES if edge < m)):
                yield Comparison(f"first:{m}", spec)


RELATION = Relation("position", "the same rows in another order, rows moved across tile edges", comparisons, order=2)
