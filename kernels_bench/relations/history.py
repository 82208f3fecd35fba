"""``history``: what was called before, and weights that were written anew."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting
from kernels_bench.relations.batch import SPECIAL

# After other calls than the whole universe's, and with other weights, two batches of so many rows are looked at.
LEAST, SMALL = 5, 65
_ZEROS = SPECIAL.index("negative zero")
"""Rows of nothing else are what an engine launches to no end: to warm up, or where other ranks have something to do."""


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """A few sizes after the whole universe; small ones after one row, other rows and zeros, and with other weights."""
    whole = f"first:{setting.universe}"
    small = [m for m in setting.few if LEAST <= m <= SMALL][:2]
    # At one M after more rows than there are too, of which a kernel may be made for fewer: that it refuses is a call.
    beyond = () if setting.longest or setting.most <= setting.universe else small[:1]
    for m in setting.few:
        if m not in beyond:
            yield Comparison(f"first:{m}", f"first:{m}", before=(whole,))
    for number, m in enumerate(() if setting.longest else small):
        for before in (("first:1",), (f"last:{m}",), *([] if number else [(f"rare:{m}:{_ZEROS}",)])):
            yield Comparison(f"first:{m}", f"first:{m}", before=before)
    for m in dict.fromkeys((*small, *setting.few[-1:])):
        yield Comparison(f"first:{m}", f"first:{m}", launch="updated")
    # The last of all: what else becomes of so many rows is another relation's.
    for m in beyond:
        yield Comparison(f"first:{m}", f"first:{m}", before=(whole, f"cycled:{setting.universe + 1}"))


def more(setting: Setting) -> Iterator[Comparison]:
    """Sizes between those, as these; every M up to some hundreds, and many beyond, after the whole universe."""
    for m in () if setting.longest else setting.between:
        yield Comparison(f"first:{m}", f"first:{m}", before=("first:1",))
        yield Comparison(f"first:{m}", f"first:{m}", launch="updated")
    for m in setting.dense:
        if m not in setting.few:
            yield Comparison(f"first:{m}", f"first:{m}", before=(f"first:{setting.universe}",))


RELATION = Relation(
    "history", "after other calls, and with weights that were written anew", comparisons, 15, more, optional=True
)
