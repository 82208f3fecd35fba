"""``before_window``: what slots of a KV cache hold whose tokens a sliding window has left behind."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting
from kernels_bench.relations.batch import UNUSED


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Everything in `UNUSED` there, at a few sizes; of a prefill, which leaves nothing behind, the last query alone."""
    if not setting.window:
        return
    for m in setting.fewest:
        for reference, tail in ((f"first:{m}", 0), (f"tails:{m}", 1)):
            for number in range(1, len(UNUSED)):
                yield Comparison(reference, f"behind:{m}:{number}:{tail}")


RELATION = Relation(
    "before_window",
    "other things in the KV cache before a sliding window, where engines free its pages",
    comparisons,
    17,
    needs="sequences",
)
