"""``layout``: rows that are a view of a wider tensor, or that begin at another address."""

from collections.abc import Iterator

from kernels_bench.records.cases import Launch
from kernels_bench.relations.base import Comparison, Relation, Setting
from kernels_bench.relations.batch import SPECIAL
from kernels_bench.relations.special_values import SPECIALS

LAUNCHES: tuple[Launch, ...] = ("view", "offset")


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Both at each of a few sizes, and a view at every telling one; of rare rows too."""
    few = setting.few
    for m in setting.telling:
        for launch in LAUNCHES if m in few else LAUNCHES[:1]:
            yield Comparison(f"first:{m}", f"first:{m}", launch=launch)
    if not setting.longest and max(setting.universe, setting.most) >= len(SPECIAL):
        yield Comparison(SPECIALS, SPECIALS, launch=LAUNCHES[0])


def more(setting: Setting) -> Iterator[Comparison]:
    """Another address at sizes between those; a view at every M up to some hundreds, and at many beyond."""
    for m in setting.between:
        yield Comparison(f"first:{m}", f"first:{m}", launch=LAUNCHES[1])
    for m in setting.dense:
        if m not in setting.telling:
            yield Comparison(f"first:{m}", f"first:{m}", launch="view")


# A kernel that takes no such rows need not say so: it may read what is not its own, and be lost with its process.
RELATION = Relation(
    "layout",
    "rows that are a view of a wider tensor, or at odd addresses",
    comparisons,
    14,
    more,
    optional=True,
    hazardous=True,
)
