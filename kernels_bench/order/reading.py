"""One case's orders over its numbers of rows: read once, proven at the others, checked by prediction."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from kernels_bench.order.layout import Layout
from kernels_bench.order.probe import Asker
from kernels_bench.order.reveal import Inconsistent, RowsDiffer
from kernels_bench.order.tree import Tree

FASTEST_LAUNCH_S = 1e-4
"""A launch with its questions takes longer everywhere: what cannot be done in time is not begun."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What is known of a kernel's orders.

    Attributes:
        layouts: every column's order at each number of rows that could be read, in the order of reading.
        mismatch: the first number of rows at which the order is another than the first tree, and where.
        uneven: numbers of rows at which rows of one launch add in different orders, and which.
        refused: other numbers of rows at which nothing can be claimed, and why.
        launches: how many there were.
    """

    layouts: dict[int, Layout] = field(default_factory=dict)
    mismatch: tuple[int, str] | None = None
    uneven: dict[int, str] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    launches: int = 0

    @property
    def distinct(self) -> list[Layout]:
        """All that were found, in the order of reading."""
        return list({layout.digest: layout for layout in self.layouts.values()}.values())

    @property
    def trees(self) -> dict[int, Tree]:
        """The tree at each number of rows at which all columns have the same."""
        return {m: layout.parts[0].tree for m, layout in self.layouts.items() if len(layout.parts) == 1}


def read_orders(
    prober_of: Callable[[int], Asker], sizes: Sequence[int], seed: int = 0, budget_s: float = math.inf
) -> Reading:
    """The order at every number of rows, as far as time allows.

    It is read out at the number of rows whose launches answer most, and proven to be the same at every other one by a
    certificate; where it is not, that order is read out too.

    Raises:
        Unsupported: see `Asker`.
    """
    deadline = time.monotonic() + budget_s
    probers = {m: prober_of(m) for m in sizes}
    fewest = sum(prober.fewest_launches for prober in probers.values())
    if fewest * FASTEST_LAUNCH_S > budget_s:
        return Reading(refused=dict.fromkeys(sizes, f"it takes {fewest} launches at least, which `order` has time for"))
    reading = Reading()
    for m in sorted(probers, key=lambda m: (-probers[m].width, m)):
        try:
            with probers[m].until(deadline):
                found, wrong = _read(probers[m], reading.distinct, seed)
                probers[m].check(found, seed)
        except Inconsistent as reason:
            (reading.uneven if isinstance(reason, RowsDiffer) else reading.refused)[m] = str(reason)
            continue
        reading.layouts[m] = found
        if wrong is not None and reading.mismatch is None:
            reading = replace(reading, mismatch=(m, wrong))
    return replace(reading, launches=sum(prober.launches for prober in probers.values()))


def _read(asker: Asker, known: Sequence[Layout], seed: int) -> tuple[Layout, str | None]:
    """One of the known orders if it is that, else a new one; and where it differs from the first, in words."""
    wrong: str | None = None
    for layout in known:
        mismatch = asker.confirm(layout)
        if mismatch is None:
            return layout, wrong
        wrong = wrong or mismatch
    return asker.read(seed), wrong
