"""``batch_size``: every M up to some hundreds against the whole universe, and rows alone and in pairs."""

from collections.abc import Iterable, Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting, spread
from kernels_bench.relations.batch import IN_TURN

# Small batches show few rows, so they are drawn from both ends of the universe.
SMALL = 64
# Rows that are looked at alone and in pairs in every run; of sequences, whose lengths differ, so many of the first.
ALONE, PAIRS, SEQUENCES = 24, 6, 128
# How far apart in the universe the two rows of a pair are: with rows of four kinds in turn, every two kinds meet.
DISTANCES = (1, 2, 3, 4)
RUNS = (5, 16)
"""Rows of a run in which whole numbers go up by two."""
# Sizes that are looked at in each universe of other rows.
DRAWN = 6


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Every size of the sweep; many rows alone, as in the commonest complaint, and some in pairs."""
    whole = f"first:{setting.universe}"
    for m in _usual(setting):
        if m < setting.universe:
            yield Comparison(whole, f"first:{m}")
            if m <= SMALL:
                yield Comparison(whole, f"last:{m}")
    for m in RUNS if setting.universe >= IN_TURN + max(RUNS) and not setting.longest else ():
        yield Comparison(whole, f"from:{m}:{IN_TURN}")
    if setting.universe > 1:
        yield from _few_rows(setting, _alone(setting), spread(setting.universe, PAIRS))


def more(setting: Setting) -> Iterator[Comparison]:
    """Every M up to some hundreds and many beyond; the small ones of the last rows too; every row alone, in pairs."""
    whole, universe = f"first:{setting.universe}", setting.universe
    usual = {*_usual(setting), universe}
    for m in _from_both(tuple(m for m in setting.dense if m not in usual)):
        yield Comparison(whole, f"first:{m}")
        if m <= SMALL:
            yield Comparison(whole, f"last:{m}")
    if universe > 1:
        known = {*_alone(setting)}
        yield from _few_rows(setting, [row for row in range(universe) if row not in known], range(universe))


def _usual(setting: Setting) -> tuple[int, ...]:
    """Every M that is looked at in every run."""
    square = (m for m in setting.shape_sizes if m <= setting.universe)
    return tuple(sorted({*setting.sizes, *square, *range(1, min(setting.every, setting.universe) + 1)}))


def _from_both(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The smallest ones and some from everywhere in turn: of a slow kernel there is no time for all of them."""
    if not sizes:
        return ()
    everywhere = dict.fromkeys((*(sizes[place] for place in spread(len(sizes), len(sizes) - 1)), *sizes))
    return tuple(dict.fromkeys(m for pair in zip(sizes, everywhere, strict=True) for m in pair))


def _alone(setting: Setting) -> tuple[int, ...]:
    if setting.longest:
        return tuple(range(min(SEQUENCES, setting.universe)))
    return spread(setting.universe, ALONE)


def _few_rows(setting: Setting, alone: Iterable[int], pairs: Iterable[int]) -> Iterator[Comparison]:
    whole = f"first:{setting.universe}"
    for row in alone:
        yield Comparison(whole, f"from:1:{row}")
    for distance in DISTANCES:
        if distance < setting.universe:
            for row in pairs:
                yield Comparison(whole, f"pair:2:{row}:{distance}")


def drawn(number: int, setting: Setting) -> Iterator[Comparison]:
    """A few M of all, others for each universe, so that each is of every kind in one universe or another."""
    sizes = setting.dense
    for pick in range(DRAWN):
        m = sizes[(number * DRAWN + pick) * 7919 % len(sizes)]
        if m < setting.universe:
            yield Comparison(f"first:{setting.universe}", f"first:{m}")


RELATION = Relation(
    "batch_size", "every M up to some hundreds, and rows alone, against all rows", comparisons, 1, more, drawn
)
