"""``page_placement``: the same sequences, the pages of their KV cache elsewhere."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting

PLACEMENTS = (1, 2)


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Some random orders of all pages at each of a few sizes."""
    for m in setting.fewest:
        for placement in PLACEMENTS:
            yield Comparison(f"first:{m}", f"placed:{m}:{placement}")


RELATION = Relation(
    "page_placement", "the pages of the KV cache in another order", comparisons, order=6, needs="sequences"
)
