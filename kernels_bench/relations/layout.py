"""``layout``: rows that are a view of a wider tensor, that begin at another address, or of rarer strides."""

from collections.abc import Iterable, Iterator

from kernels_bench.records.cases import Launch
from kernels_bench.relations.base import Comparison, Relation, Setting
from kernels_bench.relations.batch import SPECIAL
from kernels_bench.relations.special_values import SPECIALS

LAUNCHES: tuple[Launch, ...] = ("view", "offset")
RARER: tuple[Launch, ...] = ("columns", "transposed", "expanded")
"""What many an honest kernel refuses: those that it refuses are left out, and the others count."""


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """A view at every telling size, of rare rows too; another address at a few, rarer strides at two of these."""
    few = setting.few
    for m in setting.telling:
        for launch in LAUNCHES if m in few else LAUNCHES[:1]:
            yield Comparison(f"first:{m}", f"first:{m}", launch=launch)
        if m in _two_of(setting):
            yield from _rarer(setting, [m])
    if not setting.longest and max(setting.universe, setting.most) >= len(SPECIAL):
        yield Comparison(SPECIALS, SPECIALS, launch=LAUNCHES[0])


def more(setting: Setting) -> Iterator[Comparison]:
    """The same at sizes between those; a view at every M up to some hundreds, and at many beyond."""
    for m in setting.between:
        yield Comparison(f"first:{m}", f"first:{m}", launch=LAUNCHES[1])
    yield from _rarer(setting, (m for m in (*setting.telling, *setting.between) if m not in _two_of(setting)))
    for m in setting.dense:
        if m not in setting.telling:
            yield Comparison(f"first:{m}", f"first:{m}", launch="view")


def _two_of(setting: Setting) -> tuple[int, ...]:
    """The two sizes of every run, small ones."""
    return setting.few[1:3]


def _rarer(setting: Setting, sizes: Iterable[int]) -> Iterator[Comparison]:
    """Rarer strides; of sequences, whose queries no engine has so, those of heads that come before tokens alone."""
    for m in sizes if setting.strides else ():
        if m > 1:
            yield Comparison(f"first:{m}", f"first:{m}", launch="transposed")
            if not setting.longest:
                yield Comparison(f"first:{m}", f"first:{m}", launch="columns")
                yield Comparison(f"first:{m}", f"copies:{m}:{m // 2}", launch="expanded")


# A kernel that takes no such rows need not say so: it may read what is not its own, and be lost with its process.
RELATION = Relation(
    "layout",
    "rows that are a view of a wider tensor, at odd addresses, or of rarer strides",
    comparisons,
    14,
    more,
    optional=True,
    hazardous=True,
)
