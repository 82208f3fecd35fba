"""``neighbour_content``: a row keeps its place and its neighbours are exchanged, for hostile ones too."""

from collections.abc import Iterator

from kernels_bench.relations.base import HOSTILE, Comparison, Relation, Setting


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Each kind of neighbour at each of a few sizes; which rows stay changes with the kind."""
    for m in setting.few:
        if m == 1:
            continue
        for number, kind in enumerate(("others", *HOSTILE)):
            # Row 0 stays at least once: small companies may have no row of another phase.
            for phase in (0, 1 + number % min(3, m - 1)):
                yield Comparison(f"first:{m}", f"{kind}:{m}:{phase}")


RELATION = Relation("neighbour_content", "other neighbours: ordinary, huge, infinite, NaN, zero", comparisons, order=3)
