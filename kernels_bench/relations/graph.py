"""``graph``: launched eagerly, or replayed from a CUDA graph."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """The company that was captured, and another one put into the captured graph's inputs."""
    for m in setting.few:
        yield Comparison(f"first:{m}", f"first:{m}", launch="graph")
        if m > 1:
            yield Comparison(f"rotate:{m}:1", f"rotate:{m}:1", launch="graph")


RELATION = Relation(
    "graph", "replayed from a CUDA graph, against launched eagerly", comparisons, order=4, needs_cuda=True
)
