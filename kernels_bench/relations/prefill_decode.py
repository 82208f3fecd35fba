"""``prefill_decode``: a sequence's last token by prefill, or by decode."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Each telling number of sequences."""
    for m in setting.telling:
        yield Comparison(f"first:{m}", f"tails:{m}")


RELATION = Relation("prefill_decode", "the last token by prefill, or by decode", comparisons, order=8, needs="prefills")
