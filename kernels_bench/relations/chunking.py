"""``chunking``: a prefill whole, or in chunks of several sizes."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting

CHUNKS = (1, 7, 16, 64, 100, 512)
# Single tokens make as many entries as there are tokens.
FEWEST_FOR_MANY = 16
ENDS, ENDS_IN_TURN = (2, 3, 4, 8), (5, 6, 7)
"""As many queries of each sequence as where tokens were drafted; of the latter one at each number of sequences."""


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Each chunk size at each telling number of sequences; the chunks of all stand side by side in one batch.

    The smallest chunks that are no single tokens, which make the most entries, at every number of sequences. And the
    last few queries of every sequence, as many of each, as where drafted tokens are verified: a batch of nothing else.
    """
    telling = setting.telling
    for m in setting.sizes:
        for chunk in CHUNKS:
            if m <= 2 or chunk == FEWEST_FOR_MANY or (m in telling and chunk > FEWEST_FOR_MANY):
                yield Comparison(f"first:{m}", f"chunks:{m}:{chunk}")
        if m in telling:
            for queries in (*ENDS, ENDS_IN_TURN[telling.index(m) % len(ENDS_IN_TURN)]):
                yield Comparison(f"first:{m}", f"ends:{m}:{queries}")


RELATION = Relation("chunking", "a prefill whole, or in chunks", comparisons, order=7, needs="prefills")
