"""Run the relations over a subject: bits against bits, and both against float64."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from kernels_bench.comparison import Difference, difference, digest, unwritten
from kernels_bench.operators import RowTensors
from kernels_bench.records import Accuracy, CompanyRef, Counterexample, RelationResult, Verification
from kernels_bench.relations import Company, Comparison, Relation, Setting, company
from kernels_bench.relations.base import Ids
from kernels_bench.subject import KernelFault, Replay, Subject, poisoned_allocations

# Float64 elements of a reference held at once.
_REFERENCE_CHUNK = 1 << 25
# Rows of a deviating company that are compared with the reference too.
_DEVIANTS_CHECKED = 32


class Verifier:
    """Runs comparisons on one subject, keeping the outputs of the last reference company at hand.

    Attributes:
        subject: the kernel and its data.
        accuracy: the worst distance from float64 seen so far.
    """

    def __init__(self, subject: Subject, seed: int, plugin: str | None = None) -> None:
        self.subject = subject
        self.accuracy: Accuracy | None = None
        self._seed, self._plugin = seed, plugin
        self._reference: tuple[Company, RowTensors] | None = None
        self._replays: dict[int, Replay] = {}

    def verify(self, relations: Sequence[Relation], setting: Setting, digest_sizes: Sequence[int]) -> Verification:
        """Accuracy over the whole universe, digests of the first M rows, and every relation.

        Raises:
            KernelFault: the kernel writes into its inputs, or its result has a wrong form.
            Unsupported: the arm does not offer this case.
        """
        start = time.perf_counter()
        with poisoned_allocations(self.subject.device):
            wrong = self._check_universe()
            digests = {m: digest(self._outputs(f"first:{m}")) for m in digest_sizes}
            results = attribute([self._examine(relation, setting) for relation in relations])
        return Verification(
            case=self.subject.case,
            status="measured",
            wrong=wrong or self._inaccuracy(),
            relations=tuple(results),
            accuracy=self.accuracy,
            digests=digests,
            universe=self.subject.universe,
            seconds=time.perf_counter() - start,
        )

    def compare(self, comparison: Comparison, relation: str) -> Counterexample | None:
        """Compare all rows that two companies have in common.

        Raises:
            KernelFault: see `Subject.run`.
        """
        subject = self.subject
        expected_in, expected = self._reference_outputs(comparison.reference)
        actual_in = company(comparison.company, subject.universe)
        actual = self._replayed(actual_in) if comparison.launch == "graph" else subject.run(actual_in)
        places = _places(expected_in, actual_in)
        here, there = (torch.from_numpy(p).to(subject.device) for p in (actual_in.compared, places))
        for output, (left, right) in enumerate(zip(expected, actual, strict=True)):
            found = difference(left.index_select(0, there), right.index_select(0, here))
            if found is not None:
                deviants = actual_in.compared[list(found.differing_rows[:_DEVIANTS_CHECKED])]
                self._check_accuracy(actual_in, actual, deviants)
                return self._counterexample(comparison, relation, found, output, places)
        return None

    def _outputs(self, spec: str) -> RowTensors:
        return self.subject.run(company(spec, self.subject.universe))

    def _reference_outputs(self, spec: str) -> tuple[Company, RowTensors]:
        if self._reference is None or self._reference[0].spec != spec:
            self._reference = None  # let go of the old outputs before the new ones are made
            self._reference = (company(spec, self.subject.universe), self._outputs(spec))
        return self._reference

    def _replayed(self, wanted: Company) -> RowTensors:
        if wanted.size not in self._replays:
            self._replays.clear()
            self._replays[wanted.size] = self.subject.capture(company(f"first:{wanted.size}", self.subject.universe))
        return self._replays[wanted.size].run(wanted)

    def _examine(self, relation: Relation, setting: Setting) -> RelationResult:
        """One relation's result; a kernel that cannot be captured is no fault of the others."""
        if relation.needs_cuda and self.subject.device.type != "cuda":
            return RelationResult(relation=relation.name, status="unsupported", reason="needs a CUDA device")
        try:
            return self._count(relation, setting)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or not relation.needs_cuda:
                raise
            torch.cuda.synchronize()  # raises again if the device itself is lost
            return RelationResult(relation=relation.name, status="unsupported", reason=first_line(error))
        finally:
            self._replays.clear()

    def _count(self, relation: Relation, setting: Setting) -> RelationResult:
        companies = rows = broken = 0
        first: Counterexample | None = None
        for comparison in relation.comparisons(setting):
            found = self.compare(comparison, relation.name)
            companies += 1
            rows += len(company(comparison.company, setting.universe).compared)
            broken += found is not None
            first = first or found
        return RelationResult(
            relation=relation.name,
            status="held" if first is None else "broken",
            companies=companies,
            rows=rows,
            broken_companies=broken,
            counterexample=first,
        )

    def _check_universe(self) -> str:
        """Compare every row of the universe with the reference; say what is wrong beside inaccuracy."""
        whole, outputs = self._reference_outputs(f"first:{self.subject.universe}")
        missing = sum(unwritten(output) for output in outputs)
        self._check_accuracy(whole, outputs, whole.compared)
        return f"{missing} elements of the result were never written" if missing else ""

    def _check_accuracy(self, where: Company, outputs: RowTensors, positions: Ids) -> None:
        for found in self._errors(where, outputs, positions):
            if self.accuracy is None:
                self.accuracy = found
            else:
                worse = found if found.worst > self.accuracy.worst else self.accuracy
                self.accuracy = worse.model_copy(update={"rows": self.accuracy.rows + found.rows})

    def _errors(self, where: Company, outputs: RowTensors, positions: Ids) -> Iterator[Accuracy]:
        subject, operator = self.subject, self.subject.operator
        width = max(output[0].numel() for output in outputs)
        for part in np.array_split(positions, max(1, len(positions) * width // _REFERENCE_CHUNK)):
            rows = torch.from_numpy(where.rows[part]).to(subject.device)
            at = torch.from_numpy(part).to(subject.device)
            inputs = tuple(table.index_select(0, rows) for table in subject.tables)
            exact = operator.reference(inputs, subject.weights)
            allowed = operator.allowance(inputs, subject.weights, exact, subject.case.precision.torch_output)
            for right, bound, output in zip(exact, allowed, outputs, strict=True):
                yield _worst(where, part, right, bound, output.index_select(0, at))

    def _inaccuracy(self) -> str:
        found = self.accuracy
        if found is None or found.worst <= 1:
            return ""
        return (
            f"row {found.row} of company {found.company}, element {found.index}: "
            f"{found.got:.9g} where float64 gives {found.expected:.9g}"
        )

    def _counterexample(
        self, comparison: Comparison, relation: str, found: Difference, output: int, places: Ids
    ) -> Counterexample:
        universe = self.subject.universe
        expected_in, actual_in = company(comparison.reference, universe), company(comparison.company, universe)
        position = int(actual_in.compared[found.row])
        return Counterexample(
            relation=relation,
            reference=CompanyRef(
                spec=expected_in.spec, size=expected_in.size, launch="eager", position=int(places[found.row])
            ),
            company=CompanyRef(
                spec=actual_in.spec, size=actual_in.size, launch=comparison.launch, position=position
            ),
            row=int(actual_in.rows[position]),
            output=output,
            index=found.index,
            expected=found.values[0],
            got=found.values[1],
            expected_bits=found.patterns[0],
            got_bits=found.patterns[1],
            ulp=found.ulp,
            max_ulp=found.max_ulp,
            elements=found.elements,
            rows=found.rows,
            rows_compared=len(actual_in.compared),
            command=self._command(comparison, relation),
        )

    def _command(self, comparison: Comparison, relation: str) -> str:
        case = self.subject.case
        options = {
            "op": case.operator,
            "arm": case.arm,
            "shape": case.shape.token,
            "dtype": str(case.precision),
            "seed": str(self._seed),
            "universe": str(self.subject.universe),
            "relation": relation,
            "reference": comparison.reference,
            "company": comparison.company,
            "launch": comparison.launch,
            "plugin": self._plugin,
        }
        words = [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
        return shlex.join(["python", "-m", "kernels_bench", "reproduce", *words])


def attribute(results: Sequence[RelationResult]) -> list[RelationResult]:
    """Where a kernel is not even repeatable, a difference cannot be laid at another relation's door."""
    repeatable = all(result.relation != "repeat" or result.status != "broken" for result in results)
    if repeatable:
        return list(results)
    doubt = {"status": "inconclusive", "reason": "the kernel is not repeatable, which alone explains the difference"}
    return [
        result.model_copy(update=doubt) if result.status == "broken" and result.relation != "repeat" else result
        for result in results
    ]


def first_line(error: BaseException) -> str:
    """An error's own first line, or its type where it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _places(reference: Company, other: Company) -> Ids:
    """Where each compared row of ``other`` stands in ``reference``."""
    place = np.full(max(reference.rows.max(), other.rows[other.compared].max()) + 1, -1, dtype=np.int64)
    place[reference.rows] = np.arange(reference.size)
    found: Ids = place[other.rows[other.compared]]
    if (found < 0).any():
        raise ValueError(f"company {other.spec} compares rows that {reference.spec} does not have")
    return found


def _worst(where: Company, positions: Ids, exact: torch.Tensor, bound: torch.Tensor, got: torch.Tensor) -> Accuracy:
    share = (got.double() - exact).abs_().div_(bound)
    # NaN never passes: the universe's ordinary rows are finite, and so are their exact results.
    share = share.nan_to_num_(nan=torch.inf, posinf=torch.inf).reshape(len(positions), -1)
    place = int(share.argmax())
    row, index = divmod(place, share.shape[1])
    return Accuracy(
        worst=float(share[row, index]),
        row=int(where.rows[positions[row]]),
        company=where.spec,
        index=index,
        expected=float(exact.reshape(len(positions), -1)[row, index]),
        got=float(got.reshape(len(positions), -1)[row, index]),
        rows=len(positions),
    )


__all__ = ["KernelFault", "Verifier", "attribute", "first_line"]
