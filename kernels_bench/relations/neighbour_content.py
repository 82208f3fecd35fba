"""``neighbour_content``: a row keeps its place and its neighbours are exchanged, for hostile ones too."""

from collections.abc import Iterable, Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting
from kernels_bench.relations.batch import FIRST_IN_COMMON, HOSTILE, IN_COMMON, KINDS_OF_ROWS, PHASES

# What of them survives a multiplication by zero, and what is larger than all others.
TELLING_KINDS = ("huge", "nan")
# Of so many rows one is none of padding, where nearly all are.
MOSTLY = 16
# Rows of which one may be unlike all others; a batch of so many is enough.
SEVERAL, MANY = 8, 65


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Each kind of neighbour at each of a few sizes, the most contagious kinds at every telling one.

    Which rows stay changes with the kind: every fourth, so that their neighbours are near, and a random half, so that
    some row has a neighbour at any distance that a kernel may mix rows over.
    """
    if not setting.longest:
        yield from _alike(setting)
    few = setting.few
    for m in setting.telling:
        if m == 1:
            continue
        for number, kind in enumerate(("others", *HOSTILE)):
            if m in few and kind not in ("inf", "zero"):  # near neighbours that are NaN do what infinite ones do
                # Row 0 stays at least once: small companies may have no row of another phase.
                yield Comparison(f"first:{m}", f"{kind}:{m}:{number % min(PHASES, m)}")
            if m in few or kind in TELLING_KINDS:
                yield Comparison(f"first:{m}", f"{kind}:{m}:{PHASES + number}")
        for rows in _padded(m) if m in few else (m - 1,):
            yield Comparison(f"first:{m}", f"padded:{m}:{rows}")


def _alike(setting: Setting) -> Iterator[Comparison]:
    """Rows of one kind alone, small ones or wide ones, say, and rows that have a number in common.

    Of what a kernel chooses by the largest element of all rows, by a sign, or by a temperature that all have, some row
    of any other kind hides it.
    """
    for m in setting.few if setting.universe >= KINDS_OF_ROWS else ():
        for kind in range(min(m, KINDS_OF_ROWS)):
            yield Comparison(f"first:{m}", f"alike:{m}:{kind}")
    for number, first in enumerate(FIRST_IN_COMMON if setting.universe >= IN_COMMON else ()):
        for m in _sizes_in_common(setting, number):
            yield Comparison(f"from:{m}:{first}", f"common:{m}:{first}")
    yield from _of_two_sorts(setting, _several(setting)[:1], every=False)


def _of_two_sorts(setting: Setting, sizes: Iterable[int], every: bool) -> Iterator[Comparison]:
    """All rows alike but one, the first, one in the middle or the last, and halves of either sort."""
    alike, odd = FIRST_IN_COMMON, FIRST_IN_COMMON.another
    for m in (size for size in sizes if IN_COMMON <= setting.universe >= 2 * size):
        of_one = (0, m // 2, m - 1)
        for number, sort in enumerate((alike.least, alike.nothing, alike.drawn)):
            for place in of_one if every else of_one[number:][:1]:
                yield from _two_sorts(m, sort, odd, place, place + 1)
        yield from _two_sorts(m, alike.drawn, odd, 0, m // 2)


def _two_sorts(m: int, sort: int, other: int, begin: int, end: int) -> Iterator[Comparison]:
    how = f"{m}:{sort}:{other}:{begin}:{end}"
    yield Comparison(f"three:{how}", f"two:{how}")


def _several(setting: Setting) -> list[int]:
    """At which rows are of two sorts; at the first in every run."""
    return [m for m in setting.few if SEVERAL <= m <= MANY]


def _sizes_in_common(setting: Setting, number: int) -> tuple[int, ...]:
    """The largest M, which shows most rows, and a smaller one, another for each thing in common."""
    *smaller, largest = setting.fewest
    return (*smaller[number % max(1, len(smaller)) :][:1], largest)


def _padded(m: int) -> tuple[int, ...]:
    """After how many rows zeros stand, as padding does: after a half, or after so few that nearly all are zeros."""
    return (m // 2, m // MOSTLY) if m > MOSTLY else (m // 2,)


def more(setting: Setting) -> Iterator[Comparison]:
    """Contagious neighbours and padding at sizes between those; rows that have a number in common at the other ones."""
    for m in setting.between:
        for kind in TELLING_KINDS:
            yield Comparison(f"first:{m}", f"{kind}:{m}:{PHASES}")
        for rows in _padded(m):
            yield Comparison(f"first:{m}", f"padded:{m}:{rows}")
    if setting.longest or setting.universe < IN_COMMON:
        return
    for number, first in enumerate(FIRST_IN_COMMON):
        for m in setting.few:
            if m not in _sizes_in_common(setting, number):
                yield Comparison(f"from:{m}:{first}", f"common:{m}:{first}")
    yield from _of_two_sorts(setting, _several(setting), every=True)


def drawn(number: int, setting: Setting) -> Iterator[Comparison]:
    """Ordinary neighbours and padding, at one size or another."""
    sizes = [m for m in setting.telling if m > PHASES]
    for m in sizes[number % len(sizes) :][:1] if sizes else ():
        yield Comparison(f"first:{m}", f"others:{m}:{PHASES + number}")
        yield Comparison(f"first:{m}", f"padded:{m}:{1 + number * 7919 % (m - 1)}")


RELATION = Relation(
    "neighbour_content",
    "other neighbours: ordinary, huge, infinite, NaN, zero, padding",
    comparisons,
    order=3,
    more=more,
    drawn=drawn,
)
