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

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from kernels_bench.console.text import suggestion
from kernels_bench.relations.batch import (
    ELSEWHERE,
    FIRST_SPECIAL,
    HOSTILE,
    IN_COMMON,
    KINDS_OF_ROWS,
    LONG_NEIGHBOUR,
    PHASES,
    SPECIAL,
    UNUSED,
    Batch,
    Ids,
    Serving,
    routed_alike,
)  # fmt: skip
from kernels_bench.relations.spec import BatchSpec

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class BatchKind:
    """One way of choosing rows.

    Attributes:
        arguments: what stands after M in its specs.
        make: the batch of a spec, in a universe of so many rows; raises ValueError for what cannot be.
        where: what tells such batches from the first M rows in a list of places; empty where nothing need be said.
        told: whether the first argument is a length that the list tells.
        place: the same of one batch, in a sentence about it; the spec itself where it is empty.
        beyond: whether M may exceed the universe.
    """

    arguments: tuple[str, ...]
    make: Callable[[BatchSpec, int], Batch]
    where: str
    told: bool = False
    place: str = ""
    beyond: bool = False


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
    except _ImpossibleError as why:
        raise ValueError(f"batch {spec!r} {why}") from None


class _ImpossibleError(ValueError):
    """Why there is no such batch, as the end of a sentence about its spec."""


def _in_order(name: BatchSpec, _: int) -> Batch:
    return _all(name, np.arange(name.size, dtype=np.int64))


def _all(name: BatchSpec, rows: Ids, serving: Serving = Serving()) -> Batch:  # noqa: B008 - immutable
    return Batch(name, rows, np.arange(len(rows), dtype=np.int64), serving)


def _reordered(order: Callable[[Ids, BatchSpec, int], Ids]) -> Callable[[BatchSpec, int], Batch]:
    """All rows are compared, in the order that a function of 0 … M-1, the spec and the universe gives."""

    def make(name: BatchSpec, universe: int) -> Batch:
        return _all(name, order(np.arange(name.size, dtype=np.int64), name, universe))

    return make


def _served(serving: Callable[..., Serving]) -> Callable[[BatchSpec, int], Batch]:
    """Rows 0 … M-1, served as a function of the spec's arguments says."""

    def make(name: BatchSpec, _: int) -> Batch:
        if any(argument < 1 for argument in name.arguments):
            raise _ImpossibleError("has an argument below 1")
        return _all(name, np.arange(name.size, dtype=np.int64), serving(*name.arguments))

    return make


def _shuffled(size: int, seed: int) -> Ids:
    return np.random.default_rng([seed, size]).permutation(size).astype(np.int64)


def _pair(rows: Ids, name: BatchSpec, universe: int) -> Ids:
    if name.size != len(("R", "R+D")):
        raise _ImpossibleError("is of two rows")
    first, distance = name.arguments
    return np.array([first % universe, (first + distance) % universe], dtype=np.int64)


def _every(rows: Ids, name: BatchSpec, universe: int) -> Ids:
    step, first = name.arguments
    if not (1 <= step <= universe and 0 <= first < step):
        raise _ImpossibleError("has no row: S must be between 1 and the universe's rows, and R below S")
    return rows * step % (universe // step * step) + first


def _unused(what: int) -> Serving:
    if what >= len(UNUSED):
        raise _ImpossibleError(f"fills unused slots with one of {len(UNUSED) - 1} things")
    return Serving(unused=what)


def _left_behind(name: BatchSpec, _: int) -> Batch:
    """Rows 0 … M-1, all their queries or the last T."""
    what, tail = name.arguments
    if not 1 <= what < len(UNUSED):
        raise _ImpossibleError(f"fills slots before the window with one of {len(UNUSED) - 1} things")
    if tail < 0:
        raise _ImpossibleError("has fewer than no queries")
    return _all(name, np.arange(name.size, dtype=np.int64), Serving(behind=what, tail=tail))


def _staying(name: BatchSpec, phase: int) -> Flags:
    """Which positions keep their rows."""
    rows = np.arange(name.size)
    stays = rows % PHASES == phase if phase < PHASES else np.isin(rows, _shuffled(name.size, phase)[::2])
    if not stays.any():
        raise _ImpossibleError("compares no row: T must be below M")
    return stays


def _with_others(name: BatchSpec, universe: int) -> Batch:
    rows = np.arange(name.size, dtype=np.int64)
    stays = _staying(name, name.arguments[0])
    # Far from the rows they replace, and of other kinds in turn (rows.KINDS has period four).
    return Batch(name, np.where(stays, rows, (rows + universe // 2 + 1) % universe), rows[stays])


def _alike(name: BatchSpec, universe: int) -> Batch:
    (kind,) = name.arguments
    of_a_kind = universe // KINDS_OF_ROWS * KINDS_OF_ROWS
    if not 0 <= kind < min(name.size, KINDS_OF_ROWS, of_a_kind):
        raise _ImpossibleError(f"compares no row: T must be below M and {KINDS_OF_ROWS}")
    rows = np.arange(name.size, dtype=np.int64)
    stays = rows % KINDS_OF_ROWS == kind
    # From the middle of the universe on, far from the rows they replace.
    others = (rows * KINDS_OF_ROWS + of_a_kind // 2 // KINDS_OF_ROWS * KINDS_OF_ROWS + kind) % of_a_kind
    return Batch(name, np.where(stays, rows, others), rows[stays])


def _in_common(name: BatchSpec, universe: int) -> Batch:
    (first,) = name.arguments
    if not 0 <= first < min(IN_COMMON, universe):
        raise _ImpossibleError(f"has no row: R must be below {IN_COMMON}, and the universe's rows")
    positions = np.arange(name.size, dtype=np.int64)
    stays = (positions % IN_COMMON == 0) & (first + positions < universe)
    having = np.arange(first, universe, IN_COMMON, dtype=np.int64)
    others = having[(positions + len(having) // 2) % len(having)]
    return Batch(name, np.where(stays, first + positions, others), positions[stays])


def _of_sorts(with_others: bool) -> Callable[[BatchSpec, int], Batch]:
    """Rows of two sorts, over and over; or each of them once, and rows of none of them at some places."""

    def make(name: BatchSpec, universe: int) -> Batch:
        rows = _two_sorts(name, universe)
        places = np.arange(name.size, dtype=np.int64)
        from_quarter = places - name.size // PHASES
        apart = (from_quarter >= 0) & (from_quarter < max(1, name.size // (2 * PHASES)))
        kept = np.isin(places, np.unique(rows, return_index=True)[1]) & ~apart
        if not with_others:
            return Batch(name, rows, places[kept])
        others = np.setdiff1d(np.arange(universe, dtype=np.int64), rows)[: int((~kept).sum())]
        if len(others) < (~kept).sum():
            raise _ImpossibleError("has not enough other rows")
        rows[~kept] = others
        return Batch(name, rows, places[kept])

    return make


def _two_sorts(name: BatchSpec, universe: int) -> Ids:
    usual, second, begin, end = name.arguments
    if not 0 <= usual < min(IN_COMMON, universe) or not 0 <= second < min(IN_COMMON, universe):
        raise _ImpossibleError(f"has no row: R and S must be below {IN_COMMON}, and the universe's rows")
    if name.size < PHASES or not 0 <= begin < end <= name.size:
        raise _ImpossibleError(f"has no such places: M must be {PHASES} or more, and B … E - 1 places of it")
    places = np.arange(name.size, dtype=np.int64)
    of_usual, of_second = (
        rows[places % len(rows)]
        for rows in (np.arange(first, universe, IN_COMMON, dtype=np.int64) for first in (usual, second))
    )
    return np.where((begin <= places) & (places < end), of_second, of_usual)


def _with_strangers(stranger: int) -> Callable[[BatchSpec, int], Batch]:
    """The other rows are all one row, whose identity is counted from the universe's size."""

    def make(name: BatchSpec, universe: int) -> Batch:
        rows = np.arange(name.size, dtype=np.int64)
        stays = _staying(name, name.arguments[-1])
        return Batch(name, np.where(stays, rows, universe + stranger), rows[stays])

    return make


def _padded(name: BatchSpec, universe: int) -> Batch:
    (real,) = name.arguments
    if not 1 <= real < name.size:
        raise _ImpossibleError("has no row, or no padding: C must be between 1 and M - 1")
    rows = np.arange(name.size, dtype=np.int64)
    return Batch(name, np.where(rows < real, rows, universe + HOSTILE.index("zero")), rows[:real])


def _among_equals(name: BatchSpec, universe: int) -> Batch:
    row, length = name.arguments
    if length < 0:
        raise _ImpossibleError("has neighbours of fewer than no tokens")
    rows = np.full(name.size, universe + LONG_NEIGHBOUR, dtype=np.int64)
    middle = name.size // 2
    rows[middle] = row % universe
    return Batch(name, rows, np.array([middle], dtype=np.int64), Serving(stranger=length, equal=not length))


def _of_one_prompt(shared: bool) -> Callable[[BatchSpec, int], Batch]:
    """The longest row, whose number `Serving.prefix` makes 0, in the middle of others as long as it is."""

    def make(name: BatchSpec, universe: int) -> Batch:
        (pages,) = name.arguments
        if pages < 1 or name.size < len(("the longest", "another")):
            raise _ImpossibleError("shares no page, or with nobody: M must be 2 or more, and P 1")
        rows = np.full(name.size, universe + LONG_NEIGHBOUR, dtype=np.int64)
        middle = name.size // 2
        rows[middle] = 0
        serving = Serving(prefix=pages, shared=shared, equal=True)
        return Batch(name, rows, np.array([middle], dtype=np.int64), serving)

    return make


def _short(name: BatchSpec, universe: int) -> Batch:
    (shortest,) = name.arguments
    if not 1 <= shortest <= universe:
        raise _ImpossibleError("has no sequence, or more than there are: S must be between 1 and the universe's rows")
    return _all(name, np.arange(name.size, dtype=np.int64) % shortest, Serving(shortest=True))


def _long(name: BatchSpec, universe: int) -> Batch:
    short = _short(name, universe)
    return _all(name, universe - 1 - short.rows, short.serving)


def _one_long(name: BatchSpec, universe: int) -> Batch:
    short = _short(name, universe)
    rows = short.rows.copy()
    rows[name.size // 2] = universe - 1
    return _all(name, rows, short.serving)


def _routed(name: BatchSpec, universe: int) -> Batch:
    """Which rows stay, where there is not room for all that are alike, changes with C."""
    (alike_in_all,) = name.arguments
    if not 1 <= alike_in_all <= name.size:
        raise _ImpossibleError("routes no row, or more than M, alike: C must be between 1 and M")
    positions = np.arange(name.size, dtype=np.int64)
    alike = routed_alike(positions)
    there = np.flatnonzero(alike)
    staying = np.sort(np.roll(there, alike_in_all)[:alike_in_all])
    others = np.flatnonzero(~alike)
    crowd = others[_shuffled(len(others), alike_in_all)[: alike_in_all - len(staying)]]
    known = np.flatnonzero(routed_alike(np.arange(universe)))
    rows = np.full(name.size, universe + ELSEWHERE, dtype=np.int64)
    rows[staying] = staying
    # From the first ones on that have no place in a batch of M rows.
    rows[crowd] = known[(len(there) + np.arange(len(crowd))) % len(known)]
    return Batch(name, rows, staying)


def _beside_sequences(prefilling: bool) -> Callable[[BatchSpec, int], Batch]:
    def make(name: BatchSpec, universe: int) -> Batch:
        if name.arguments[0] < 1:
            raise _ImpossibleError("has neighbours without tokens")
        found = _with_strangers(LONG_NEIGHBOUR)(name, universe)
        return replace(found, serving=Serving(stranger=name.arguments[0], prefilling=prefilling))

    return make


def _with_special(name: BatchSpec, universe: int) -> Batch:
    """The special rows, as many as there is room for, spread over the batch; which come first goes round with P."""
    count, first = min(len(SPECIAL), name.size), name.arguments[0]
    numbers = np.arange(count, dtype=np.int64)
    positions = (first + numbers * (name.size // count)) % name.size
    rows = np.arange(name.size, dtype=np.int64) % universe
    rows[positions] = universe + FIRST_SPECIAL + (first + numbers) % len(SPECIAL)
    return Batch(name, rows, np.sort(positions))


def _special_in_chunks(name: BatchSpec, universe: int) -> Batch:
    (chunk,) = name.arguments
    if chunk < 1:
        raise _ImpossibleError("has an argument below 1")
    whole = _with_special(BatchSpec(name.kind, name.size, (0,)), universe)
    return Batch(name, whole.rows.copy(), whole.compared.copy(), Serving(chunk=chunk))


def _ends_of_the_longest(unequal: bool) -> Callable[[BatchSpec, int], Batch]:
    def make(name: BatchSpec, universe: int) -> Batch:
        (tail,) = name.arguments
        if tail < 1:
            raise _ImpossibleError("has an argument below 1")
        longest_first = universe - 1 - np.arange(name.size, dtype=np.int64) % max(1, universe // 2)
        return _all(name, longest_first, Serving(tail=tail, unequal=unequal, shortest=True))

    return make


def _rare(rows: Ids, name: BatchSpec, universe: int) -> Ids:
    if not 0 <= name.arguments[0] < len(SPECIAL):
        raise _ImpossibleError(f"has no row: P must be below {len(SPECIAL)}")
    return 0 * rows + universe + FIRST_SPECIAL + name.arguments[0]


def _period(universe: int) -> int:
    """The largest prime in the universe: what begins anew after a power of two does not begin with the same row."""
    return next(n for n in range(universe, 0, -1) if all(n % divisor for divisor in range(2, int(n**0.5) + 1)))


def batch_kinds() -> Mapping[str, BatchKind]:
    """Every kind by name."""
    return _KINDS


def _hostile(kind: str) -> BatchKind:
    return BatchKind(("T",), _with_strangers(HOSTILE.index(kind)), f"{kind} neighbours")


_KINDS: Mapping[str, BatchKind] = MappingProxyType({
    "first": BatchKind((), _in_order, ""),
    "last": BatchKind((), _reordered(lambda rows, name, universe: rows + universe - name.size), "other rows first"),
    "from": BatchKind(
        ("S",), _reordered(lambda rows, name, universe: (rows + name.arguments[0]) % universe), "other rows first"
    ),
    "pair": BatchKind(("R", "D"), _reordered(_pair), "two rows"),
    "copies": BatchKind(
        ("R",),
        _reordered(lambda rows, name, universe: 0 * rows + name.arguments[0] % universe),
        "one row repeated",
        place="row {0} at every place",
    ),
    "twice": BatchKind((), _reordered(lambda rows, *_: rows // 2), "each row twice", place="each row twice"),
    "cycled": BatchKind(
        (),
        _reordered(lambda rows, _, universe: rows % _period(universe)),
        "rows repeated",
        place="rows repeated",
        beyond=True,
    ),
    "reverse": BatchKind((), _reordered(lambda rows, *_: rows[::-1].copy()), "reversed"),
    "rotate": BatchKind(("P",), _reordered(lambda rows, name, _: np.roll(rows, name.arguments[0])), "rotated"),
    "shuffle": BatchKind(("S",), _reordered(lambda _, name, __: _shuffled(name.size, name.arguments[0])), "shuffled"),
    "others": BatchKind(("T",), _with_others, "other neighbours"),
    "alike": BatchKind(("T",), _alike, "neighbours of the same kind"),
    "common": BatchKind(("R",), _in_common, "neighbours with a number in common"),
    "two": BatchKind(
        ("R", "S", "B", "E"), _of_sorts(with_others=False), "rows of two sorts alone", place="rows of two sorts alone"
    ),
    "three": BatchKind(
        ("R", "S", "B", "E"), _of_sorts(with_others=True), "rows of two sorts", place="rows of two sorts and others"
    ),
    **{kind: _hostile(kind) for kind in HOSTILE},
    "padded": BatchKind(("C",), _padded, "padded with zeros", place="padded with zeros after {0} rows"),
    "routed": BatchKind(
        ("C",), _routed, "rows of the same experts or adapter:", told=True, place="{0} of the same experts or adapter"
    ),
    "special": BatchKind(("P",), _with_special, "among other rows", place="among other rows", beyond=True),
    "rare": BatchKind(
        ("P",), _reordered(_rare), "one special row repeated", place="special row {0} at every place"
    ),
    "decoding": BatchKind(
        ("L", "T"),
        _beside_sequences(prefilling=False),
        "neighbours decode at KV length",
        told=True,
        place="neighbours decode at KV length {0}",
    ),
    "prefilling": BatchKind(
        ("L", "T"),
        _beside_sequences(prefilling=True),
        "neighbours prefill",
        told=True,
        place="neighbours prefill {0} tokens",
    ),
    "among": BatchKind(
        ("R", "L"), _among_equals, "among sequences of one length", place="row {0} among sequences of one length"
    ),
    "short": BatchKind(("S",), _short, "the shortest ones", place="the {0} shortest ones"),
    "long": BatchKind(("S",), _long, "the longest ones", place="the {0} longest ones"),
    "lone": BatchKind(
        ("S",), _one_long, "the longest one among the shortest", place="the longest one among the {0} shortest"
    ),
    "twins": BatchKind(
        (), _served(lambda: Serving(paired=True)), "in pairs of one length", place="in pairs of one length"
    ),
    "placed": BatchKind(
        ("S",), _served(lambda order: Serving(placement=order)), "pages elsewhere", place="pages elsewhere"
    ),
    "unused": BatchKind(("U",), _served(_unused), "unused slots hold something else", place="unused slots refilled"),
    "behind": BatchKind(
        ("U", "T"),
        _left_behind,
        "slots before the window hold something else",
        place="slots before the window refilled",
    ),
    "apart": BatchKind(("P",), _served(lambda pages: Serving(prefix=pages)), "pages copied"),
    "shared": BatchKind(
        ("P",),
        _served(lambda pages: Serving(prefix=pages, shared=True)),
        "pages shared",
        place="the first {0} pages shared",
    ),
    "cached": BatchKind(
        ("P",),
        _served(lambda pages: Serving(prefix=pages, shared=True, cached=True)),
        "what follows shared pages alone",
        place="after {0} shared pages",
    ),
    "siblings": BatchKind(
        ("P",),
        _of_one_prompt(shared=True),
        "pages shared by sequences of one length",
        place="the first {0} pages shared by sequences of one length",
    ),
    "cousins": BatchKind(("P",), _of_one_prompt(shared=False), "pages copied for sequences of one length"),
    "far": BatchKind((), _served(lambda: Serving(far=True)), "pages far away", place="pages far away"),
    "chunks": BatchKind(
        ("C",), _served(lambda size: Serving(chunk=size)), "chunks of", told=True, place="in chunks of {0}"
    ),
    "parts": BatchKind(
        ("C",),
        _special_in_chunks,
        "special ones in chunks of",
        told=True,
        place="special ones in chunks of {0}",
        beyond=True,
    ),
    "drafts": BatchKind(
        ("T",),
        _ends_of_the_longest(unequal=False),
        "last tokens of the longest ones alone:",
        told=True,
        place="the last {0} tokens of the longest ones",
        beyond=True,
    ),
    "unequal": BatchKind(
        ("T",),
        _ends_of_the_longest(unequal=True),
        "last tokens of the longest ones, not as many of each:",
        told=True,
        place="the last 2 to {0} tokens of the longest ones",
        beyond=True,
    ),
    "tails": BatchKind((), _served(lambda: Serving(tail=1)), "last token by decode", place="by decode"),
    "ends": BatchKind(
        ("T",), _served(lambda tail: Serving(tail=tail)), "last tokens alone:", told=True, place="their last {0} tokens"
    ),
    "every": BatchKind(("S", "R"), _reordered(_every), "some of the rows", place="every {0}th row from row {1} on"),
    "tp": BatchKind(("R",), _served(lambda ranks: Serving(ranks=ranks)), "at TP", told=True, place="at TP {0}"),
})  # fmt: skip
