"""``shared_pages``: sequences that begin alike, with pages of their own or with the same pages."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting, spread

PAGES = (1, 2, 7)
# Sequences that stand several times in one batch, as where one prompt is answered several times.
REPEATED = 3


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Some numbers of shared first pages at each of a few sizes, and batches of one sequence many times."""
    whole = f"first:{setting.universe}"
    for m in setting.few:
        for pages in PAGES:
            if m > 1 and pages * setting.page < setting.longest:
                yield Comparison(f"apart:{m}:{pages}", f"shared:{m}:{pages}")
    for m in setting.few:
        for row in spread(setting.universe, REPEATED):
            if m > 1:
                yield Comparison(whole, f"copies:{m}:{row}")


RELATION = Relation("shared_pages", "sequences that share their first pages", comparisons, 11, needs="sequences")
