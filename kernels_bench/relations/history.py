"""``history``: what was called before, a larger batch or a smaller one, and weights that were written anew."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """At each telling size after the whole universe; at a few after one row and after others; with other weights."""
    whole = f"first:{setting.universe}"
    few = setting.few
    for m in setting.telling:
        for before in ((whole,), ("first:1",), (f"last:{m}",))[: None if m in few else 1]:
            yield Comparison(f"first:{m}", f"first:{m}", before=before)
    for m in few:
        yield Comparison(f"first:{m}", f"first:{m}", launch="updated")


RELATION = Relation(
    "history", "after other calls, and with weights that were written anew", comparisons, 15, optional=True
)
