"""``history``: what was called before, a larger batch or a smaller one, and weights that were written anew."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """At each telling size after the whole universe, after one row, and twice in a row; with other weights in place."""
    whole = f"first:{setting.universe}"
    for m in setting.telling:
        for before in ((whole,), ("first:1",), (f"last:{m}",), (f"first:{m}",) * 2):
            yield Comparison(f"first:{m}", f"first:{m}", before=before)
    for m in setting.few:
        yield Comparison(f"first:{m}", f"first:{m}", launch="updated")


RELATION = Relation(
    "history", "after other calls, and with weights that were written anew", comparisons, 15, optional=True
)
