"""``batch_size``: the first (and the last) M rows, for M around every threshold, against the whole universe."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting

# Small companies show few rows, so they are drawn from both ends of the universe.
SMALL = 64


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Every size of the sweep."""
    whole = f"first:{setting.universe}"
    for m in setting.sizes:
        if m < setting.universe:
            yield Comparison(whole, f"first:{m}")
            if m <= SMALL:
                yield Comparison(whole, f"last:{m}")


RELATION = Relation("batch_size", "M rows for M around every power of two, against all rows", comparisons, order=1)
