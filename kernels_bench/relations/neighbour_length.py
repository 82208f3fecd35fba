"""``neighbour_length``: the row stays, and its neighbours decode or prefill at every length around a threshold."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting
from kernels_bench.relations.batch import PHASES

# Around the powers of two at which kernels choose another tile, another number of splits or another path.
THRESHOLDS = (9, 16, 32, 64, 128, 256, 512)
LENGTHS = (*range(1, 6), *(n + d for n in THRESHOLDS for d in (-1, 0, 1)), 2048)
# Beside one neighbour each of these lengths is tried; beside sixteen, which cost as many times more, these.
BESIDE_MANY = (1, *(n + 1 for n in THRESHOLDS), 2048)
TRIED = {2: LENGTHS, 17: BESIDE_MANY}


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Neighbours that decode and neighbours that prefill, at a few sizes; which rows stay changes with the length."""
    for m in (size for size in TRIED if size <= setting.universe):
        for length in (length for length in TRIED[m] if length <= setting.longest):
            for kind in ("decoding", "prefilling"):
                yield Comparison(f"first:{m}", f"{kind}:{m}:{length}:{length % min(PHASES, m)}")


RELATION = Relation(
    "neighbour_length",
    "neighbours that decode or prefill at every length around a threshold",
    comparisons,
    order=5,
    needs="sequences",
)
