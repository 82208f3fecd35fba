"""Batches of sequences: which lengths they have, what is computed of them, and where their caches lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from kernels_bench.relations.batch import LONG_NEIGHBOUR, UNUSED, Batch, Serving
from kernels_bench.relations.batch_kinds.among_others import with_special, with_strangers
from kernels_bench.relations.batch_kinds.kind import BatchKind, ImpossibleError, all_of, served
from kernels_bench.relations.spec import BatchSpec


def _unused(what: int) -> Serving:
    if what >= len(UNUSED):
        raise ImpossibleError(f"fills unused slots with one of {len(UNUSED) - 1} things")
    return Serving(unused=what)


def _left_behind(name: BatchSpec, _: int) -> Batch:
    """Rows 0 … M-1, all their queries or the last T."""
    what, tail = name.arguments
    if not 1 <= what < len(UNUSED):
        raise ImpossibleError(f"fills slots before the window with one of {len(UNUSED) - 1} things")
    if tail < 0:
        raise ImpossibleError("has fewer than no queries")
    return all_of(name, np.arange(name.size, dtype=np.int64), Serving(behind=what, tail=tail))


def _among_equals(name: BatchSpec, universe: int) -> Batch:
    row, length = name.arguments
    if length < 0:
        raise ImpossibleError("has neighbours of fewer than no tokens")
    rows = np.full(name.size, universe + LONG_NEIGHBOUR, dtype=np.int64)
    middle = name.size // 2
    rows[middle] = row % universe
    return Batch(name, rows, np.array([middle], dtype=np.int64), Serving(stranger=length, equal=not length))


def _of_one_prompt(shared: bool) -> Callable[[BatchSpec, int], Batch]:
    """The longest row, whose number `Serving.prefix` makes 0, in the middle of others as long as it is."""

    def make(name: BatchSpec, universe: int) -> Batch:
        (pages,) = name.arguments
        if pages < 1 or name.size < len(("the longest", "another")):
            raise ImpossibleError("shares no page, or with nobody: M must be 2 or more, and P 1")
        rows = np.full(name.size, universe + LONG_NEIGHBOUR, dtype=np.int64)
        middle = name.size // 2
        rows[middle] = 0
        serving = Serving(prefix=pages, shared=shared, equal=True)
        return Batch(name, rows, np.array([middle], dtype=np.int64), serving)

    return make


def _short(name: BatchSpec, universe: int) -> Batch:
    (shortest,) = name.arguments
    if not 1 <= shortest <= universe:
        raise ImpossibleError("has no sequence, or more than there are: S must be between 1 and the universe's rows")
    return all_of(name, np.arange(name.size, dtype=np.int64) % shortest, Serving(shortest=True))


def _long(name: BatchSpec, universe: int) -> Batch:
    short = _short(name, universe)
    return all_of(name, universe - 1 - short.rows, short.serving)


def _one_long(place: Callable[[int], int]) -> Callable[[BatchSpec, int], Batch]:
    """The longest sequence at a place among the shortest."""

    def make(name: BatchSpec, universe: int) -> Batch:
        short = _short(name, universe)
        rows = short.rows.copy()
        rows[place(name.size)] = universe - 1
        return all_of(name, rows, short.serving)

    return make


def _beside_sequences(prefilling: bool) -> Callable[[BatchSpec, int], Batch]:
    def make(name: BatchSpec, universe: int) -> Batch:
        if name.arguments[0] < 1:
            raise ImpossibleError("has neighbours without tokens")
        found = with_strangers(LONG_NEIGHBOUR)(name, universe)
        return replace(found, serving=Serving(stranger=name.arguments[0], prefilling=prefilling))

    return make


def _special_in_chunks(name: BatchSpec, universe: int) -> Batch:
    (chunk,) = name.arguments
    if chunk < 1:
        raise ImpossibleError("has an argument below 1")
    whole = with_special(BatchSpec(name.kind, name.size, (0,)), universe)
    return Batch(name, whole.rows.copy(), whole.compared.copy(), Serving(chunk=chunk))


def _ends_of_the_longest(unequal: bool) -> Callable[[BatchSpec, int], Batch]:
    def make(name: BatchSpec, universe: int) -> Batch:
        (tail,) = name.arguments
        if tail < 1:
            raise ImpossibleError("has an argument below 1")
        longest_first = universe - 1 - np.arange(name.size, dtype=np.int64) % max(1, universe // 2)
        return all_of(name, longest_first, Serving(tail=tail, unequal=unequal, shortest=True))

    return make


KINDS: Mapping[str, BatchKind] = MappingProxyType({
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
        ("S",),
        _one_long(lambda size: size // 2),
        "the longest one among the shortest",
        place="the longest one among the {0} shortest",
    ),
    "leading": BatchKind(
        ("S",),
        _one_long(lambda size: 0),
        "the longest one before the shortest",
        place="the longest one before the {0} shortest",
    ),
    "trailing": BatchKind(
        ("S",),
        _one_long(lambda size: size - 1),
        "the longest one after the shortest",
        place="the longest one after the {0} shortest",
    ),
    "twins": BatchKind(
        (), served(lambda: Serving(paired=True)), "in pairs of one length", place="in pairs of one length"
    ),
    "placed": BatchKind(
        ("S",), served(lambda order: Serving(placement=order)), "pages elsewhere", place="pages elsewhere"
    ),
    "unused": BatchKind(("U",), served(_unused), "unused slots hold something else", place="unused slots refilled"),
    "behind": BatchKind(
        ("U", "T"),
        _left_behind,
        "slots before the window hold something else",
        place="slots before the window refilled",
    ),
    "apart": BatchKind(("P",), served(lambda pages: Serving(prefix=pages)), "pages copied"),
    "shared": BatchKind(
        ("P",),
        served(lambda pages: Serving(prefix=pages, shared=True)),
        "pages shared",
        place="the first {0} pages shared",
    ),
    "cached": BatchKind(
        ("P",),
        served(lambda pages: Serving(prefix=pages, shared=True, cached=True)),
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
    "far": BatchKind((), served(lambda: Serving(far=True)), "pages far away", place="pages far away"),
    "chunks": BatchKind(
        ("C",), served(lambda size: Serving(chunk=size)), "chunks of", told=True, place="in chunks of {0}"
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
    "tails": BatchKind((), served(lambda: Serving(tail=1)), "last token by decode", place="by decode"),
    "ends": BatchKind(
        ("T",), served(lambda tail: Serving(tail=tail)), "last tokens alone:", told=True, place="their last {0} tokens"
    ),
})  # fmt: skip
"""Each by name."""
