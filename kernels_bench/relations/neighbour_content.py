"""``neighbour_content``: a row keeps its place and its neighbours are exchanged, for hostile ones too."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting
from kernels_bench.relations.batch import ALIKE, FIRST_ALIKE, HOSTILE, KINDS_OF_ROWS, PHASES

# What of them survives a multiplication by zero, and what is larger than all others.
TELLING_KINDS = ("huge", "nan")


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Each kind of neighbour at each of a few sizes, the most contagious kinds at every telling one.

    Which rows stay changes with the kind: every fourth, so that their neighbours are near, and a random half, so that
    some row has a neighbour at any distance that a kernel may mix rows over. Zeros stand as padding does, too: all of
    them last, as many as there are rows or a single one. And rows of one kind alone, small ones or wide ones, say: of
    what a kernel chooses by the largest element, or by a sign, of all rows, some row of any other kind hides it. Rows
    that have a number in common, such as a temperature, are tried alone for the same reason.
    """
    few = setting.few
    for m in () if setting.longest or setting.universe < KINDS_OF_ROWS else few:
        for first in range(min(m, KINDS_OF_ROWS)):
            yield Comparison(f"first:{m}", f"alike:{m}:{first}")
        if m > FIRST_ALIKE and setting.universe >= ALIKE:
            yield Comparison(f"first:{m}", f"alike:{m}:{KINDS_OF_ROWS}")
    for m in setting.telling:
        if m == 1:
            continue
        for number, kind in enumerate(("others", *HOSTILE)):
            if m in few and kind != "inf":  # near neighbours that are NaN do what infinite ones do
                # Row 0 stays at least once: small companies may have no row of another phase.
                near = f"padded:{m}:{m // 2}" if kind == "zero" else f"{kind}:{m}:{number % min(PHASES, m)}"
                yield Comparison(f"first:{m}", near)
            if m in few or kind in TELLING_KINDS:
                yield Comparison(f"first:{m}", f"{kind}:{m}:{PHASES + number}")
        if m not in few:
            yield Comparison(f"first:{m}", f"padded:{m}:{m - 1}")


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
    drawn=drawn,
)
