"""``chunking``: a prefill whole, in chunks of several sizes, or what follows pages that others share."""

from collections.abc import Iterable, Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting
from kernels_bench.relations.batch import SPECIAL
from kernels_bench.relations.special_values import SPECIALS

CHUNKS = (1, 7, 16, 64, 100, 512)
# Single tokens make as many entries as there are tokens.
FEWEST_FOR_MANY = 16
ENDS, ENDS_IN_TURN = (2, 3, 4, 8), (5, 6, 7)
"""As many queries of each sequence as where tokens were drafted; of the latter one at each number of sequences."""
DRAFTS = ((2, 16), (5, 16), (12, 6))
"""Numbers of long sequences, and of the last queries of each, as of trees and blocks of drafts: all have as many."""
UNEQUAL, FURTHER_UNEQUAL = ((5, 8), (12, 4)), ((2, 4), (3, 8), (8, 6), (24, 8))
"""Likewise, and of the most queries of any, where each has its own number, as where some drafts were rejected."""
FURTHER_SEQUENCES, FURTHER_DRAFTS = (3, 8, 12, 24), (*range(2, 9), 12, 16, 32)
PARTS, FURTHER_PARTS = (8,), (1, 16)
"""Chunks of special sequences."""


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Each chunk size at each telling number of sequences; the chunks of all stand side by side in one batch.

    The smallest chunks that are no single tokens, which make the most entries, at every number of sequences. And the
    last few queries of every sequence, as many of each, as where drafted tokens are verified: a batch of nothing else;
    of long ones not as many of each, too.
    Then what follows the first page where all have the same one, and special sequences in chunks.
    """
    telling = setting.telling
    for m in setting.sizes:
        for chunk in CHUNKS:
            if m <= 2 or chunk == FEWEST_FOR_MANY or (m in telling and chunk > FEWEST_FOR_MANY):
                yield Comparison(f"first:{m}", f"chunks:{m}:{chunk}")
        if m in telling:
            for queries in (*ENDS, ENDS_IN_TURN[telling.index(m) % len(ENDS_IN_TURN)]):
                yield Comparison(f"first:{m}", f"ends:{m}:{queries}")
    yield from _drafts(setting, DRAFTS)
    yield from _drafts(setting, UNEQUAL, "unequal")
    yield from _after_shared(setting, setting.fewest, 1)
    yield from _special(setting, PARTS)


def more(setting: Setting) -> Iterator[Comparison]:
    """Other numbers of drafts and of sequences, of shared pages, and other chunks of special ones."""
    every = [(m, queries) for m in FURTHER_SEQUENCES for queries in FURTHER_DRAFTS]
    yield from _drafts(setting, [one for one in every if one not in DRAFTS])
    yield from _drafts(setting, FURTHER_UNEQUAL, "unequal")
    yield from _after_shared(setting, [m for m in setting.telling if m not in setting.fewest], 1)
    for pages in (2, 3):
        yield from _after_shared(setting, setting.fewest, pages)
    yield from _special(setting, FURTHER_PARTS)


def _drafts(setting: Setting, wanted: Iterable[tuple[int, int]], kind: str = "drafts") -> Iterator[Comparison]:
    for m, queries in wanted:
        if m <= max(setting.universe, setting.most):
            yield Comparison(f"first:{setting.universe}", f"{kind}:{m}:{queries}")


def _after_shared(setting: Setting, sizes: Iterable[int], pages: int) -> Iterator[Comparison]:
    for m in sizes:
        if m > 1 and pages * setting.page < setting.longest:
            yield Comparison(f"apart:{m}:{pages}", f"cached:{m}:{pages}")


def _special(setting: Setting, chunks: Iterable[int]) -> Iterator[Comparison]:
    for chunk in chunks if len(SPECIAL) <= max(setting.universe, setting.most) else ():
        yield Comparison(SPECIALS, f"parts:{len(SPECIAL)}:{chunk}")


RELATION = Relation(
    "chunking", "a prefill whole, in chunks, or after shared pages", comparisons, order=7, more=more, needs="prefills"
)
