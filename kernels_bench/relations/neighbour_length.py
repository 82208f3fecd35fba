"""``neighbour_length``: the row stays, and its neighbours decode or prefill at every length around a threshold."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting
from kernels_bench.relations.batch import PHASES

# Around the powers of two at which kernels choose another tile, another number of splits or another path.
LENGTHS = (*range(1, 6), *(n + d for n in (9, 16, 32, 64, 128, 256, 512) for d in (-1, 0, 1)), 2048)
SIZES = (2, 17)


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Neighbours that decode and neighbours that prefill, at a few sizes; which rows stay changes with the length."""
    for m in (size for size in SIZES if size <= setting.universe):
        for length in (length for length in LENGTHS if length <= setting.longest):
            for kind in ("decoding", "prefilling"):
                yield Comparison(f"first:{m}", f"{kind}:{m}:{length}:{length % min(PHASES, m)}")


RELATION = Relation(
    "neighbour_length",
    "neighbours that decode or prefill at every length around a threshold",
    comparisons,
    order=5,
    needs="sequences",
)
