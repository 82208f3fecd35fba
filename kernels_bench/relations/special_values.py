"""``special_values``: rows of subnormal numbers, zeros, infinities, NaN, masks and outliers are compared too."""

from collections.abc import Iterable, Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting
from kernels_bench.relations.batch import SPECIAL

SPECIALS = f"special:{len(SPECIAL)}:0"
"""All of them by themselves."""
# Special rows are moved on by fewer than so many places, so that each stands beside others at another M.
MOVED, PAIR = 7, 2
# A batch of one of them at every place has about so many rows.
MANY = 65


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Among ordinary rows at the usual sizes, and each alone, against all of them by themselves."""
    count = len(SPECIAL)
    for number in range(count):
        yield Comparison(SPECIALS, f"special:1:{number}")
    # In pairs, so that what one of them does is not hidden by infinities and NaN.
    for number in range(1, count, PAIR):
        yield Comparison(SPECIALS, f"special:{PAIR}:{number}")
    for m in _usual(setting):
        # Where not all of them have room, others are there the second time.
        for moved in (m % MOVED,) if m >= count else (0, 3) if m > PAIR else ():
            yield Comparison(SPECIALS, f"special:{m}:{moved}")
    # What a kernel chooses where no row has a negative number, say, or each has an outlier, other rows hide.
    yield from _repeated(_some_size(setting))


def more(setting: Setting) -> Iterator[Comparison]:
    """At every M up to some hundreds, and at many beyond."""
    usual = _usual(setting)
    for m in setting.dense:
        if m not in usual:
            yield Comparison(SPECIALS, f"special:{m}:{m}")
    yield from _repeated([m for m in setting.few if m not in _some_size(setting)])


def _some_size(setting: Setting) -> list[int]:
    """At which one of them stands at every place in every run."""
    return [m for m in setting.few if PAIR < m <= MANY][-1:]


def _repeated(sizes: Iterable[int]) -> Iterator[Comparison]:
    """Each of them at every place."""
    for m in sizes:
        for number in range(len(SPECIAL)):
            yield Comparison(SPECIALS, f"rare:{m}:{number}")


def _usual(setting: Setting) -> tuple[int, ...]:
    """Every M that is looked at in every run."""
    return setting.telling if setting.longest else setting.sizes


RELATION = Relation(
    "special_values",
    "rows of subnormal numbers, signed zeros, infinities, NaN, masks and outliers, at every M",
    comparisons,
    9,
    more,
)
