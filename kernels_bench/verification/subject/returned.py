"""Memory that a kernel returned: poisoned once it was copied, unless it is a constant of the kernel's own."""

from __future__ import annotations

from collections.abc import Callable

import torch

from kernels_bench.operators import RowTensors
from kernels_bench.verification.subject.launch_forms import whole_memory
from kernels_bench.verification.subject.poison import poison, still_poison
from kernels_bench.verification.subject.tensors import memory_of

_FEW = (1, 2)


class ReturnedMemory:
    """Poisons what one kernel returns: one that returns what it once computed then returns poison.

    Args:
        universe: number of rows of its largest usual batch.
    """

    def __init__(self, universe: int) -> None:
        # A path of its own for few rows may have a constant of its own; another launch at every M would take too long.
        self._to_be_asked_at = {*_FEW, universe}
        self._constants = frozenset[int]()

    def poison(self, returned: RowTensors, m: int, lent: frozenset[int], again: Callable[[], RowTensors]) -> None:
        """Poison what a call returned, once all of it is copied: one result may be a view of another one.

        A kernel that returns its rows or a weight must not have these poisoned; that it wrote there is seen later.  Nor
        must a constant of the kernel's be, or what it computes but once.

        Args:
            returned: the call's results.
            m: number of its rows.
            lent: where the memory of rows and weights begins.
            again: makes the same call once more.
        """
        if m in self._to_be_asked_at:
            self._to_be_asked_at.remove(m)
            self._constants |= _constants_in(returned, lent, again)
        spared = self._constants | lent
        for output in returned:
            if output.untyped_storage().data_ptr() not in spared:
                poison(output)


def _constants_in(returned: RowTensors, lent: frozenset[int], again: Callable[[], RowTensors]) -> frozenset[int]:
    """Memory of results that another call gives again without writing there; poisoned in between, and put right."""
    given_again = memory_of(again()) & memory_of(returned) - lent
    kept = [output for output in returned if output.untyped_storage().data_ptr() in given_again]
    if not kept:
        return frozenset()
    # Bytes of the whole: elements of a view may share an address.
    before = [whole_memory(output, torch.uint8).clone() for output in kept]
    for output in kept:
        poison(output)
    again()
    constants = [pair for pair in zip(kept, before, strict=True) if still_poison(pair[0])]
    for output, as_before in constants:
        whole_memory(output, torch.uint8).copy_(as_before)
    return memory_of(output for output, _ in constants)
