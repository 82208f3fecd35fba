"""Comparisons that were launched and wait to be judged: many batches of one reference are compared at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from kernels_bench.operators import RowTensors
from kernels_bench.relations import Batch, Comparison
from kernels_bench.verification.bitwise import bits, same_bits
from kernels_bench.verification.kernel_under_test import LaunchResult
from kernels_bench.verification.row_alignment import RowAlignment, take


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
        """Bytes that wait with it."""
        return sum(output.nbytes for output in (*self.outputs, *self.reference.outputs))

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
