"""The kinds of batches: how each chooses its rows, and how a sentence tells of it.

============================  ====================================================================
``first:M``                   rows 0 … M-1 in order
``last:M``                    the universe's last M rows in order
``from:M:S``                  rows S … S+M-1, after the last one the first
``pair:2:R:D``                rows R and R+D
``copies:M:R``                row R at every position
``twice:M``                   each row twice, one after the other: 0, 0, 1, 1 and so on
``every:M:S:R``               every S-th row from row R on, over and over
``cycled:M``                  rows 0 … M-1, beginning anew after the last; M may exceed the universe
``reverse:M``                 rows M-1 … 0
``rotate:M:P``                rows 0 … M-1 moved on by P positions, so that row 0 stands at P
``shuffle:M:S``               rows 0 … M-1 in the random order S
``others:M:T``                every fourth row from T on stays, the rest come from elsewhere; from T=4 on a
                              random half stays, for neighbours at every distance
``alike:M:T``                 every fourth row from T on stays, the rest are others of the same kind
``common:M:R``                every 32nd row from R on, which have a number in common: row R first, then R+32 at
                              position 32 and so on, as in ``from:M:R``, others of them between these
``two:M:R:S:B:E``             rows of two sorts alone: at positions B … E-1 every 32nd row from S on, over and over,
                              at all others those from R on
``three:M:R:S:B:E``           likewise, each of them once; other rows in place of the rest, and of some from M / 4 on
``huge:M:T`` … ``zero:M:T``   as ``others``, the rest replaced by one hostile row
``padded:M:C``                rows 0 … C-1, and zeros after them, as where a CUDA graph has room for M
``routed:M:C``                C of M rows choose the same experts, or adapter, those of them stay that are there
                              already, at most C; all others are one row that chooses none of these
``special:M:P``               rows of special values from position P on, spread among rows 0 … M-1
``rare:M:P``                  the P-th row of special values at every position
``decoding:M:L:T``            likewise as ``others``, the rest replaced by sequences that decode at KV length L
``prefilling:M:L:T``          likewise, by sequences that prefill L tokens
``among:M:R:L``               row R in the middle of M-1 sequences of length L; L=0: of its own
``short:M:S``                 the S shortest sequences of the universe, over and over
``long:M:S``                  likewise the S longest ones
``lone:M:S``                  the S shortest ones, over and over, and the longest one in the middle of them
``leading:M:S``               likewise, the longest one first
``trailing:M:S``              likewise, the longest one last, as engines sort a prefill behind decode steps
``twins:M``                   packed sequences in pairs of one length
``placed:M:S``                rows 0 … M-1, the pages of their KV cache in the random order S; of S=1 each
                              sequence's one after the other, of S=3 from its last one on, of S=4 so
                              many apart as there are sequences, of S=5 in the usual order after 65,536 others
``unused:M:U``                rows 0 … M-1, the cache's unused slots filled with the U-th of `UNUSED`
``behind:M:U:T``              likewise the slots before the window of every query that is computed: of all, or the
                              last T of each row
``apart:M:P``                 the M longest sequences, the first P pages of each a copy of the longest one's;
                              from P=3 on those alone that have more pages, over and over
``shared:M:P``                likewise, and all of them the longest one's own pages
``cached:M:P``                likewise, and only the queries of what follows these pages
``siblings:M:P``              the longest sequence in the middle of M-1 others of its length, the first P pages of
                              all of them the same ones, as where one prompt is answered several times
``cousins:M:P``               likewise, these pages copied for each
``far:M``                     rows 0 … M-1, their pages at the end of a cache of more than 2^31 elements
``chunks:M:C``                rows 0 … M-1, their queries in chunks of C, all in one batch
``parts:M:C``                 rows of special values as in ``special:M:0``, their queries in chunks of C
``drafts:M:T``                the longest half of the sequences, over and over, of each the last T queries
``unequal:M:T``               likewise, of each another number of queries: T, T-1, … 2, and over again
``tails:M``                   rows 0 … M-1, of each the last query alone
``ends:M:T``                  likewise the last T queries, as where drafted tokens are verified
``tp:M:R``                    rows 0 … M-1, computed by R ranks, each of which has a part of every row
============================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from kernels_bench.console.text import suggestion
from kernels_bench.relations.batch import Batch, Serving
from kernels_bench.relations.batch_kinds import among_others, of_rows, of_sequences
from kernels_bench.relations.batch_kinds.kind import BatchKind, ImpossibleError, served
from kernels_bench.relations.spec import BatchSpec


@lru_cache(1 << 15)
def make_batch(spec: str, universe: int) -> Batch:
    """The batch of a spec, always the same object; M and the other arguments are whole numbers.

    Args:
        spec: one of those above.
        universe: number of rows.

    Raises:
        ValueError: an unknown or impossible spec.
    """
    name = BatchSpec.parse(spec)
    kind = batch_kinds().get(name.kind)
    if kind is None:
        raise ValueError(f"batch {spec!r}: unknown kind {name.kind}{suggestion(name.kind, batch_kinds())}")
    if len(name.arguments) != len(kind.arguments):
        form = ":".join((name.kind, "M", *kind.arguments))
        raise ValueError(f"batch {spec!r}: the wrong number of arguments; its form is {form}")
    if name.size < 1 or (name.size > universe and not kind.beyond):
        raise ValueError(f"batch {spec!r}: M must be between 1 and the universe's {universe} rows")
    try:
        return kind.make(name, universe)
    except ImpossibleError as why:
        raise ValueError(f"batch {spec!r} {why}") from None


def batch_kinds() -> Mapping[str, BatchKind]:
    """Every kind by name."""
    return _KINDS


_KINDS: Mapping[str, BatchKind] = MappingProxyType({
    **of_rows.KINDS,
    **among_others.KINDS,
    **of_sequences.KINDS,
    "tp": BatchKind(("R",), served(lambda ranks: Serving(ranks=ranks)), "at TP", told=True, place="at TP {0}"),
})  # fmt: skip
