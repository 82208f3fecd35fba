"""Companies, the comparisons between two of them, and the relations that choose the comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from kernels_bench.discovery import offering

# rows.HOSTILE in order; named again so that this module needs no torch. A test holds the two together.
HOSTILE = ("huge", "inf", "nan", "zero")
# Those beside which a row that is not kept apart overflows or becomes NaN.
CONTAGIOUS = ("huge", "inf", "nan")
# Counted from the universe's size, like the hostile rows: a sequence as long as any neighbour needs to be.
STRANGER = len(HOSTILE)

# Patterns of the rows that stay where others are exchanged: every fourth from one of so many on, or a random half.
PHASES = 4

# Sizes at which costlier relations look, the most telling first: one in every range of the powers of two, since kernels
# choose a path for each, beside whole tiles of several sizes.
TELLING = (5, 16, 65, 257, 33, 2, 64, 1025, 129, 17, 8, 513, 3, 2049)
FEW = 6

Ids = npt.NDArray[np.int64]
Launch = Literal["eager", "graph"]
Need = Literal["rows", "sequences", "prefills"]


@dataclass(frozen=True)
class Serving:
    """How an engine would serve rows that are sequences; without meaning where they are not.

    Attributes:
        chunk: queries of a compared row that one entry of the batch computes; 0: all of them.
        tail: how many of a compared row's last queries are computed; 0: all of them.
        stranger: KV length of the neighbours; 0: their own.
        prefilling: such neighbours compute all their queries, not only the last.
        placement: which of many placements of the KV cache's pages; 0: the usual one.
    """

    chunk: int = 0
    tail: int = 0
    stranger: int = 0
    prefilling: bool = False
    placement: int = 0


@dataclass(frozen=True, eq=False)
class Company:
    """An ordered choice of rows.

    Attributes:
        spec: what makes it again, such as ``shuffle:64:1``.
        rows: identity of the row at each position; from the universe's size on, the hostile rows, and after them the
            long stranger that universes of sequences have.
        compared: positions whose rows' outputs are compared; the others are mere neighbours.
        serving: how the rows are served where they are sequences.

    Both arrays are read-only: companies are shared.
    """

    spec: str
    rows: Ids
    compared: Ids
    serving: Serving = Serving()

    def __post_init__(self) -> None:
        for array in (self.rows, self.compared):
            array.flags.writeable = False

    @property
    def size(self) -> int:
        """M."""
        return len(self.rows)

    @property
    def contagious(self) -> bool:
        """Whether there are neighbours whose values a row takes harm from, if it is not kept apart from them."""
        return self.spec.partition(":")[0] in CONTAGIOUS


@lru_cache(4096)
def company(spec: str, universe: int) -> Company:
    """The company of a spec, always the same object; M and the other arguments are whole numbers.

    ============================  ====================================================================
    ``first:M``                   rows 0 … M-1 in order
    ``last:M``                    the universe's last M rows in order
    ``reverse:M``                 rows M-1 … 0
    ``rotate:M:P``                rows 0 … M-1 moved on by P positions, so that row 0 stands at P
    ``shuffle:M:S``               rows 0 … M-1 in the random order S
    ``others:M:T``                every fourth row from T on stays, the rest come from elsewhere; from T=4 on a
                                  random half stays, for neighbours at every distance
    ``huge:M:T`` … ``zero:M:T``   likewise, the rest replaced by one hostile row
    ``decoding:M:L:T``            likewise, the rest replaced by sequences that decode at KV length L
    ``prefilling:M:L:T``          likewise, by sequences that prefill L tokens
    ``placed:M:S``                rows 0 … M-1, the pages of their KV cache in the random order S
    ``chunks:M:C``                rows 0 … M-1, their queries in chunks of C, all in one batch
    ``tails:M``                   rows 0 … M-1, of each the last query alone
    ============================  ====================================================================

    Raises:
        ValueError: an unknown or impossible spec.
    """
    kind, *numbers = spec.split(":")
    try:
        size, *arguments = (int(number) for number in numbers)
    except ValueError:
        raise ValueError(f"company {spec!r}: expected KIND:M or KIND:M:ARGUMENT with whole numbers") from None
    if not 1 <= size <= universe:
        raise ValueError(f"company {spec!r}: M must be between 1 and the universe's {universe} rows")
    rows = np.arange(size, dtype=np.int64)
    if kind in ("first", "last", "reverse") and not arguments:
        chosen = {"first": rows, "last": rows + universe - size, "reverse": rows[::-1].copy()}[kind]
        return Company(spec, chosen, rows)
    if kind in ("rotate", "shuffle") and len(arguments) == 1:
        chosen = np.roll(rows, arguments[0]) if kind == "rotate" else _shuffled(size, arguments[0])
        return Company(spec, chosen, rows)
    if kind in ("others", *HOSTILE) and len(arguments) == 1:
        return _among_strangers(spec, kind, rows, arguments[0], universe)
    if kind in ("decoding", "prefilling") and len(arguments) == 2 and arguments[0] > 0:
        found = _among_strangers(spec, kind, rows, arguments[1], universe)
        return replace(found, serving=Serving(stranger=arguments[0], prefilling=kind == "prefilling"))
    if (serving := _serving(kind, arguments)) is not None:
        return Company(spec, rows, rows, serving)
    raise ValueError(f"company {spec!r}: unknown kind, or the wrong number of arguments")


def _shuffled(size: int, seed: int) -> Ids:
    return np.random.default_rng([seed, size]).permutation(size).astype(np.int64)


def _serving(kind: str, arguments: Sequence[int]) -> Serving | None:
    if kind == "tails" and not arguments:
        return Serving(tail=1)
    if kind in ("placed", "chunks") and len(arguments) == 1 and arguments[0] > 0:
        return Serving(placement=arguments[0]) if kind == "placed" else Serving(chunk=arguments[0])
    return None


def _among_strangers(spec: str, kind: str, rows: Ids, phase: int, universe: int) -> Company:
    stays = rows % PHASES == phase if phase < PHASES else np.isin(rows, _shuffled(len(rows), phase)[::2])
    # Far from the rows they replace, and of other kinds in turn (rows.KINDS has period four).
    if kind == "others":
        strangers = (rows + universe // 2 + 1) % universe
    else:
        strangers = np.full_like(rows, universe + (HOSTILE.index(kind) if kind in HOSTILE else STRANGER))
    if not stays.any():
        raise ValueError(f"company {spec!r} compares no row: T must be below M")
    return Company(spec, np.where(stays, rows, strangers), rows[stays])


@dataclass(frozen=True)
class Comparison:
    """Two companies whose common rows must have the same bits.

    Attributes:
        reference: spec of the company that gives the expected bits, launched eagerly.
        company: spec of the company under test.
        launch: how the company under test is launched.
    """

    reference: str
    company: str
    launch: Launch = "eager"


@dataclass(frozen=True)
class Setting:
    """What a relation chooses from.

    Attributes:
        universe: number of rows.
        sizes: every M of the sweep, ascending.
        longest: KV length of the longest neighbour there can be, where rows are sequences.
        asked: those of the sizes that the user named: costlier relations look there too.
    """

    universe: int
    sizes: tuple[int, ...]
    longest: int = 0
    asked: tuple[int, ...] = ()

    @property
    def few(self) -> tuple[int, ...]:
        """At most six sizes over the sweep's whole range, its ends among them, for costlier relations."""
        count = min(FEW, len(self.sizes))
        spread = np.linspace(0, len(self.sizes) - 1, count).round().astype(int)
        picks = dict.fromkeys([*self._by_worth, *(self.sizes[i] for i in spread.tolist())])
        return tuple(sorted([*picks][:count]))

    @property
    def telling(self) -> tuple[int, ...]:
        """Those few, those asked for, and one of every range in which a kernel may take a path of its own."""
        return tuple(sorted({*self.few, *self.asked, *self._by_worth}))

    @property
    def _by_worth(self) -> tuple[int, ...]:
        """The ends, and the sizes between them that tell most."""
        known = set(self.sizes)
        return (self.sizes[0], self.sizes[-1], *(m for m in TELLING if m in known))


@dataclass(frozen=True)
class Relation:
    """One way of choosing companies.

    Attributes:
        name: as users type it.
        summary: one line for ``--list``.
        comparisons: the pairs to compare, those of one reference together.
        order: relations run in ascending order.
        needs_cuda: it has no meaning on a CPU.
        needs: what an operator's rows must be for it to have a meaning: anything, sequences, or sequences with many
            queries.
    """

    name: str
    summary: str
    comparisons: Callable[[Setting], Iterator[Comparison]]
    order: int
    needs_cuda: bool = False
    needs: Need = "rows"

    def applies_to(self, rows_are: Need) -> bool:
        """Whether it has a meaning for an operator whose rows are so."""
        kinds: tuple[Need, ...] = ("rows", "sequences", "prefills")
        return kinds.index(self.needs) <= kinds.index(rows_are)


@cache
def relations() -> dict[str, Relation]:
    """Every relation by name, in ascending order."""
    found = [file.RELATION for file in offering(__package__, "RELATION")]
    return {relation.name: relation for relation in sorted(found, key=lambda relation: relation.order)}


def sweep(universe: int) -> tuple[int, ...]:
    """M one below, at and one above every power of two, since batch variance begins at dispatch thresholds."""
    powers = [1 << exponent for exponent in range(13)]
    around = {m for power in powers for m in (power - 1, power, power + 1)} | {5, universe}
    return tuple(sorted(m for m in around if 1 <= m <= universe))
