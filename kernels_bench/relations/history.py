"""``history``: what was called before, a larger batch or a smaller one, and weights that were written anew."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """At each of a few sizes after the whole universe, after one row and after other rows; with other weights."""
    whole = f"first:{setting.universe}"
    for m in setting.few:
        for before in ((whole,), ("first:1",), (f"last:{m}",))[: 1 if setting.longest else None]:
            yield Comparison(f"first:{m}", f"first:{m}", before=before)
    for m in setting.few:
        yield Comparison(f"first:{m}", f"first:{m}", launch="updated")


def more(setting: Setting) -> Iterator[Comparison]:
    """Every M up to some hundreds, and many beyond, after the whole universe."""
    for m in setting.dense:
        if m not in setting.few:
            yield Comparison(f"first:{m}", f"first:{m}", before=(f"first:{setting.universe}",))


RELATION = Relation(
    "history", "after other calls, and with weights that were written anew", comparisons, 15, more, optional=True
)
