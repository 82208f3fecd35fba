"""Comparisons that were launched and wait to be judged: many batches of one reference are compared at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.operators import ResultRows, RowTensors
from kernels_bench.relations import Batch, Comparison
from kernels_bench.relations.batch import Ids
from kernels_bench.verification.bitwise import bits, same_bits
from kernels_bench.verification.subject.launched import LaunchResult

_KEPT = 512  # alignments, since every case asks for the same
Places = slice | torch.Tensor


@dataclass(frozen=True, eq=False)
class RowAlignment:
    """The lines that some batches compare, in their results, one after the other, and in their reference's.

    Attributes:
        ids: identity of each.
        expected_at: where each stands in the reference's result.
        got_at: where each stands in its own batch's result.
        ends: one after the last line of each batch.
        left: ``expected_at``, to take lines by.
        right: where each stands in all batches' results, to take lines by.
        ids_on_device: ``ids`` on the device.
    """

    ids: Ids
    expected_at: Ids
    got_at: Ids
    ends: Ids
    left: Places
    right: Places
    ids_on_device: torch.Tensor


@lru_cache(_KEPT)
def align_rows(reference: ResultRows, others: tuple[ResultRows, ...], device: torch.device) -> RowAlignment:
    """Pair the lines that ``others`` compare with those of the same identity in ``reference``.

    Raises:
        ValueError: ``reference`` lacks some of them.
    """
    wanted = np.concatenate([other.ids[other.compared] for other in others])
    sizes = np.array([len(other.ids) for other in others])
    starts = np.cumsum(sizes) - sizes
    known, first = np.unique(reference.ids, return_index=True)
    place = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    if (known[place] != wanted).any():
        raise ValueError("a batch compares lines that its reference does not have")
    found: Ids = first[place].astype(np.int64)
    within = np.concatenate([other.compared + start for other, start in zip(others, starts, strict=True)])
    return RowAlignment(
        ids=wanted,
        expected_at=found,
        got_at=np.concatenate([other.compared for other in others]),
        ends=np.cumsum([len(other.compared) for other in others]),
        left=_places(found, device),
        right=_places(within, device),
        ids_on_device=copy_to_device(wanted, device),
    )


def take(tensor: torch.Tensor, places: Places) -> torch.Tensor:
    """Some lines of a tensor; a view where they follow each other."""
    return tensor[places] if isinstance(places, slice) else tensor.index_select(0, places)


def _places(positions: Ids, device: torch.device) -> Places:
    first, count = int(positions[0]), len(positions)
    if np.array_equal(positions, np.arange(first, first + count)):
        return slice(first, first + count)
    return copy_to_device(positions, device)


@dataclass(frozen=True, eq=False)
class TrialGroup:
    """Some batches that are compared with one reference.

    Attributes:
        comparisons: what is compared.
        companies: the batches under test, likewise.
        launches: those of them whose inputs are to be seen intact, without their outputs.
        reference: the launch that gives the expected bits.
        alignment: the lines that are compared, of all batches one after the other.
        outputs: the operator's results for all lines of all batches, one after the other.
        same: for each result, whether all bits agree: booleans on the device.
    """

    comparisons: Sequence[Comparison]
    companies: Sequence[Batch]
    launches: Sequence[LaunchResult]
    reference: LaunchResult
    alignment: RowAlignment
    outputs: RowTensors
    same: Sequence[torch.Tensor]

    @classmethod
    def compare(
        cls,
        comparisons: Sequence[Comparison],
        companies: Sequence[Batch],
        reference: LaunchResult,
        alignment: RowAlignment,
        outputs: RowTensors,
        launches: Sequence[LaunchResult] = (),
    ) -> TrialGroup:
        """Have the device compare all of them; waits for nothing."""
        pairs = zip(reference.outputs, outputs, strict=True)
        same = [same_bits(take(left, alignment.left), take(right, alignment.right)) for left, right in pairs]
        bare = [replace(launched, outputs=()) for launched in launches]
        return cls(comparisons, companies, bare, reference, alignment, outputs, same)

    @property
    def held(self) -> int:
        """Bytes that wait with it, apart from the reference's, which others may have too."""
        return sum(output.nbytes for output in self.outputs)

    @property
    def elements(self) -> int:
        """How many elements are compared."""
        return sum(output[0].numel() * len(self.alignment.ids) for output in self.outputs if len(output))

    def broken(self) -> list[BrokenTrial]:
        """The batches in which some row differs; waits for the device."""
        found: dict[int, BrokenTrial] = {}
        for number, (left, right) in enumerate(zip(self.reference.outputs, self.outputs, strict=True)):
            expected, got = take(left, self.alignment.left), take(right, self.alignment.right)
            differs = (bits(expected) != bits(got)).reshape(len(got), -1).any(1).cpu().numpy()
            ends = self.alignment.ends
            begins = np.concatenate([[0], ends[:-1]])
            for place in np.flatnonzero(np.logical_or.reduceat(differs, begins)).tolist():
                if place not in found:
                    part = slice(int(begins[place]), int(ends[place]))
                    found[place] = BrokenTrial(self, place, part, number)
        return [found[place] for place in sorted(found)]


@dataclass(frozen=True, eq=False)
class BrokenTrial:
    """A batch of which some row differs from the reference.

    Attributes:
        group: where it was compared.
        place: which of the group's it is.
        part: its lines among those that are compared.
        output: number of the first of the operator's results in which some row differs.
    """

    group: TrialGroup
    place: int
    part: slice
    output: int

    @property
    def before(self) -> str:
        """Spec of what was launched right before it."""
        if self.place:
            return self.group.companies[self.place - 1].spec
        return self.group.launches[0].after if self.group.launches else self.group.reference.company.spec

    @property
    def comparison(self) -> Comparison:
        """What was compared."""
        return self.group.comparisons[self.place]

    @property
    def company(self) -> Batch:
        """The batch under test."""
        return self.group.companies[self.place]

    @property
    def ids(self) -> torch.Tensor:
        """Identity of each line that was compared, on the device."""
        return self.group.alignment.ids_on_device[self.part]

    def pair(self, output: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One result's compared lines in the reference and in the batch under test."""
        left, right = self.group.reference.outputs[output], self.group.outputs[output]
        alignment = self.group.alignment
        return take(left, alignment.left)[self.part], take(right, alignment.right)[self.part]

    def outputs(self) -> RowTensors:
        """Every result's compared lines in the batch under test."""
        return tuple(take(right, self.group.alignment.right)[self.part] for right in self.group.outputs)
