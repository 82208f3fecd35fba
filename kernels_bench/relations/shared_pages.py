"""``shared_pages``: sequences that begin alike, with pages of their own or with the same pages."""

from collections.abc import Iterable, Iterator, Sequence

from kernels_bench.relations.base import Comparison, Relation, Setting, spread
from kernels_bench.relations.batch import KINDS_OF_ROWS

PAGES, IN_TURN, FURTHER_PAGES = (1, 2, 7, 16), (3, 4, 6), (3, 4, 5, 6, 8, 12, 15)
# Sequences that stand several times in one batch, as where one prompt is answered several times, and how often.
REPEATED, TIMES = 16, (2, 5)
# Sequences of one length, and how many first pages they share: what one prompt was answered with, as it goes on.
SIBLINGS = ((2, 1), (5, 2))
# Sequences that do so in each universe of other rows, of one kind (see `drawn`).
DRAWN = 4


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Some numbers of shared first pages at each of a few sizes, also at one length, and one sequence many times."""
    yield from _sharing(setting, PAGES, IN_TURN)
    for m, pages in SIBLINGS:
        if m <= setting.universe and pages * setting.page < setting.longest:
            yield Comparison(f"cousins:2:{pages}", f"siblings:{m}:{pages}")
    yield from _repeated(setting, spread(setting.universe, REPEATED))


def more(setting: Setting) -> Iterator[Comparison]:
    """Other numbers of pages, and every sequence many times."""
    yield from _sharing(setting, FURTHER_PAGES)
    known = {*spread(setting.universe, REPEATED)}
    yield from _repeated(setting, [row for row in range(setting.universe) if row not in known])


def drawn(number: int, setting: Setting) -> Iterator[Comparison]:
    """Some first pages shared by two sequences, and some sequences many times, others in each universe.

    In universes whose seeds are an odd number apart the kinds of a sequence go round: in four of them those at four
    places in turn are of one kind, in the next four of another. Of the kind whose values cancel each is soon tried.
    """
    for pages in PAGES:
        if pages * setting.page < setting.longest and setting.universe > 1:
            yield Comparison(f"apart:2:{pages}", f"shared:2:{pages}")
    yield from _repeated(setting, _of_one_kind(number, setting.universe))


def _of_one_kind(number: int, universe: int) -> list[int]:
    """So many sequences of the n-th universe, all of one kind; the same kind in four universes in turn."""
    turn = (number - 1) // KINDS_OF_ROWS
    of_kind = range((number + turn) % KINDS_OF_ROWS, universe, KINDS_OF_ROWS)
    picks = ((turn * DRAWN + pick) * 7919 for pick in range(min(DRAWN, len(of_kind))))
    return [of_kind[pick % len(of_kind)] for pick in picks]


def _sharing(setting: Setting, numbers: Sequence[int], in_turn: Sequence[int] = ()) -> Iterator[Comparison]:
    """At each size so many pages, and another one in turn."""
    for number, m in enumerate(setting.fewest):
        for pages in (*numbers, *in_turn[number % max(1, len(in_turn)) :][:1]):
            if m > 1 and pages * setting.page < setting.longest:
                yield Comparison(f"apart:{m}:{pages}", f"shared:{m}:{pages}")


def _repeated(setting: Setting, rows: Iterable[int]) -> Iterator[Comparison]:
    for row in rows:
        for times in (times for times in TIMES if times <= setting.universe):
            yield Comparison(f"first:{setting.universe}", f"copies:{times}:{row}")


RELATION = Relation(
    "shared_pages",
    "sequences that share their first pages",
    comparisons,
    11,
    more,
    drawn,
    needs="sequences",
)
