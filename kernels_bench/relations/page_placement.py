"""``page_placement``: the same sequences, the pages of their KV cache elsewhere."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting
from kernels_bench.relations.batch import AFTER_MANY

PLACEMENTS = (1, 2, 3, 4)
"""In order, random, falling, and in turn: see `batch_kinds`."""


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Each at each of a few sizes."""
    for m in setting.fewest:
        for placement in PLACEMENTS:
            yield Comparison(f"first:{m}", f"placed:{m}:{placement}")


def more(setting: Setting) -> Iterator[Comparison]:
    """After more pages than 16 bits count, at the largest of those sizes."""
    for m in setting.fewest[-1:] if setting.many_pages else ():
        yield Comparison(f"first:{m}", f"placed:{m}:{AFTER_MANY}")


def drawn(number: int, setting: Setting) -> Iterator[Comparison]:
    """One of them at the largest size."""
    placement = PLACEMENTS[number % len(PLACEMENTS)]
    yield Comparison(f"first:{setting.universe}", f"placed:{setting.universe}:{placement}")


RELATION = Relation(
    "page_placement",
    "the pages of the KV cache one after the other, falling, in turn, or in another order",
    comparisons,
    order=6,
    more=more,
    drawn=drawn,
    needs="sequences",
)
