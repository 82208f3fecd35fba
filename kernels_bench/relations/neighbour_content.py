"""``neighbour_content``: a row keeps its place and its neighbours are exchanged, for hostile ones too."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting
from kernels_bench.relations.batch import HOSTILE, PHASES

# What of them survives a multiplication by zero, and what is larger than all others.
TELLING_KINDS = ("huge", "nan")


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Each kind of neighbour at each of a few sizes, the most contagious kinds at every telling one.

    Which rows stay changes with the kind: every fourth, so that their neighbours are near, and a random half, so that
    some row has a neighbour at any distance that a kernel may mix rows over.
    """
    few = setting.few
    for m in setting.telling:
        if m == 1:
            continue
        for number, kind in enumerate(("others", *HOSTILE)):
            if m in few:
                # Row 0 stays at least once: small companies may have no row of another phase.
                yield Comparison(f"first:{m}", f"{kind}:{m}:{number % min(PHASES, m)}")
            if m in few or kind in TELLING_KINDS:
                yield Comparison(f"first:{m}", f"{kind}:{m}:{PHASES + number}")


RELATION = Relation("neighbour_content", "other neighbours: ordinary, huge, infinite, NaN, zero", comparisons, order=3)
