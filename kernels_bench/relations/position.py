"""``position``: the same rows in another order."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting

# A rotation by P puts row 0 at P and moves every other row: on either side of the edges that tiles have.
EDGES = (1, 8, 16, 63, 64, 128)
# Steps that share no factor with the height of any tile: in so many rotations a row stands at every place of it.
EVERY_ROTATION = 65
STEPS = (5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61)


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Shuffled at each telling size; reversed, shuffled again and rotated to tile edges at each of a few."""
    few = setting.few
    for m in setting.telling:
        if m == 1:
            continue
        yield Comparison(f"first:{m}", f"shuffle:{m}:0")
        if m in few:
            moved = (f"rotate:{m}:{edge}" for edge in EDGES if edge < m)
            for spec in (f"copies:{m}:{m // 2}", f"twice:{m // 2 * 2}", f"reverse:{m}", f"shuffle:{m}:1", *moved):
                yield Comparison(f"first:{m}", spec)


def more(setting: Setting) -> Iterator[Comparison]:
    """Every rotation of a few small batches, rotations by steps that fit no tile, and further random orders."""
    for m in setting.telling:
        steps = range(1, m) if m <= EVERY_ROTATION else (step for step in STEPS if step < m)
        for step in steps:
            yield Comparison(f"first:{m}", f"rotate:{m}:{step}")
        for seed in (2, 3):
            if m > 1:
                yield Comparison(f"first:{m}", f"shuffle:{m}:{seed}")


def drawn(number: int, setting: Setting) -> Iterator[Comparison]:
    """Another random order, and another rotation."""
    m = setting.universe
    if m > 1:
        yield Comparison(f"first:{m}", f"shuffle:{m}:{number}")
        yield Comparison(f"first:{m}", f"rotate:{m}:{number % (m - 1) + 1}")


RELATION = Relation(
    "position", "the same rows in another order, rows moved across tile edges", comparisons, 2, more, drawn
)
