"""``neighbour_length``: the row stays, and its neighbours decode or prefill at every length around a threshold."""

from collections.abc import Iterable, Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting, spread
from kernels_bench.relations.batch import PHASES

# Around the powers of two at which kernels choose another tile, another number of splits or another path.
THRESHOLDS = (9, 16, 32, 64, 128, 256, 512)
LENGTHS = (*range(1, 6), *(n + d for n in THRESHOLDS for d in (-1, 0, 1)), 2048)
# Beside one neighbour each of these lengths is tried; beside sixteen, which cost as many times more, these.
BESIDE_MANY = (1, *(n + 1 for n in THRESHOLDS), 2048)
TRIED = {2: LENGTHS, 17: BESIDE_MANY}
# So many of one length stand together, for so many rows; and batches of so many sequences have none that is long, but
# these parts of the universe.
EQUAL, ROWS, SHORT, PARTS = 6, 5, (3, 8, 17, 40), (8, 4, 2)


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Neighbours that decode and neighbours that prefill, at a few sizes; which rows stay changes with the length.

    Then neighbours that are all as long as the row, or that all have one token, and batches without long sequences.
    """
    for m in (size for size in TRIED if size <= setting.universe):
        for length in (length for length in TRIED[m] if length <= setting.longest):
            # Of prefills, which cost most, either side of each threshold is enough.
            for kind in ("decoding",) if length in THRESHOLDS else ("decoding", "prefilling"):
                yield Comparison(f"first:{m}", f"{kind}:{m}:{length}:{length % min(PHASES, m)}")
    yield from _among(setting, spread(setting.universe, ROWS))
    yield from _short(setting, SHORT)


def drawn(number: int, setting: Setting) -> Iterator[Comparison]:
    """A row among others of one length, and a batch without long sequences."""
    yield from _among(setting, [number * 7919 % setting.universe])
    yield from _short(setting, SHORT[number % len(SHORT) :][:1])


def _among(setting: Setting, rows: Iterable[int]) -> Iterator[Comparison]:
    for row in rows if setting.universe >= EQUAL else ():
        yield Comparison(f"first:{setting.universe}", f"among:{EQUAL}:{row}:0")
        yield Comparison(f"first:{setting.universe}", f"among:{EQUAL}:{row}:1")


def _short(setting: Setting, sizes: Iterable[int]) -> Iterator[Comparison]:
    for m in (m for m in sizes if m <= setting.universe):
        for shortest in sorted({1 + setting.universe // part for part in PARTS}):
            yield Comparison(f"first:{setting.universe}", f"short:{m}:{shortest}")
        # In descending order of their lengths, as where an engine sorts them.
        yield Comparison(f"first:{setting.universe}", f"long:{m}:{m}")


RELATION = Relation(
    "neighbour_length",
    "neighbours that decode or prefill at every length around a threshold",
    comparisons,
    order=5,
    drawn=drawn,
    needs="sequences",
)
