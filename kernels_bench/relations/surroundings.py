"""``surroundings``: what a caller sets around a kernel: inference mode, gradients, a default dtype."""

from collections.abc import Iterator

from kernels_bench.records.cases import Launch
from kernels_bench.relations.base import Comparison, Relation, Setting

AROUND: tuple[Launch, ...] = ("inference", "gradients", "default_dtype")
"""What is set. What a kernel refuses of it is left out: it raises, or would have to be compiled anew.

Not the number of torch's threads: once it was set, even if it was put back, exponentials of the same process take
several times as long, and kernels are timed there.
"""


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Each once around a small batch, and once around one of some dozens or hundreds of rows."""
    for m in dict.fromkeys((setting.few[:2][-1], setting.few[-2:][0])):
        for launch in AROUND:
            yield Comparison(f"first:{m}", f"first:{m}", launch=launch)


# Tensors that a kernel keeps from inference mode cannot be written outside of it: all else is examined before.
RELATION = Relation(
    "surroundings",
    "in inference mode, with gradients or without, under another default dtype",
    comparisons,
    20,
    optional=True,
    hazardous=True,
)
