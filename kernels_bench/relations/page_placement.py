"""``page_placement``: the same sequences, the pages of their KV cache elsewhere."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting

PLACEMENTS = (1, 2, 3, 4)
"""In order, random, falling, and in turn: see `batch_kinds`."""


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Each at each of a few sizes."""
    for m in setting.fewest:
        for placement in PLACEMENTS:
            yield Comparison(f"first:{m}", f"placed:{m}:{placement}")


def drawn(number: int, setting: Setting) -> Iterator[Comparison]:
    """One of them at the largest size."""
    placement = PLACEMENTS[number % len(PLACEMENTS)]
    yield Comparison(f"first:{setting.universe}", f"placed:{setting.universe}:{placement}")


RELATION = Relation(
    "page_placement",
    "the pages of the KV cache one after the other, falling, in turn, or in another order",
    comparisons,
    order=6,
    drawn=drawn,
    needs="sequences",
)
