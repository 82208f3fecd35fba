"""Run the relations over a subject: bits against bits, and both against float64."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kernels_bench.cases import printable
from kernels_bench.comparison import Difference, difference, digest, same_bits, unwritten
from kernels_bench.operators import RowTensors
from kernels_bench.records import Accuracy, CompanyRef, Counterexample, RelationResult, Verification
from kernels_bench.relations import Company, Comparison, Relation, Setting, company
from kernels_bench.relations.base import Ids
from kernels_bench.subject import Launched, Replay, Subject, poisoned_allocations

# Float64 elements of a reference held at once.
_REFERENCE_CHUNK = 1 << 25
# Rows of a deviating company that are compared with the reference too.
_DEVIANTS_CHECKED = 32
# Trials whose outcome is waited for together: waiting costs more than comparing.
_HELD_TRIALS, _HELD_BYTES = 32, 256 << 20


@dataclass(frozen=True, eq=False)
class Trial:
    """A comparison that was launched.

    Attributes:
        comparison: what is compared.
        launched: the company under test.
        places: where each compared row stands in the reference company.
        pairs: for each of the operator's results, the compared rows' outputs in both companies.
        same: for each pair, whether all bits agree: booleans on the device.
    """

    comparison: Comparison
    launched: Launched
    places: Ids
    pairs: list[tuple[torch.Tensor, torch.Tensor]]
    same: list[torch.Tensor]


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
        self._unwritten = ""
        self._reference: Launched | None = None
        self._replays: dict[int, Replay] = {}

    def verify(self, relations: Sequence[Relation], setting: Setting, digest_sizes: Sequence[int]) -> Verification:
        """Accuracy over the whole universe, digests of the first M rows, and every relation.

        Raises:
            KernelFault: the kernel writes into its inputs, or its result has a wrong form.
            Unsupported: the arm does not offer this case.
        """
        start = time.perf_counter()
        with poisoned_allocations(self.subject.device):
            self._check_universe()
            digests = {m: self._digest(m) for m in digest_sizes}
            results = attribute([self._examine(relation, setting) for relation in relations])
        return Verification(
            case=self.subject.case,
            status="measured",
            wrong=self._unwritten or self._inaccuracy(),
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
        return self._judge([self._try(comparison)], relation)[0]

    def _digest(self, m: int) -> str:
        return digest(self.subject.run(company(f"first:{m}", self.subject.universe)))

    def _try(self, comparison: Comparison) -> Trial:
        """Launch a comparison and have the device compare it; waits for nothing unless the reference is new."""
        reference = self._reference_launch(comparison.reference)
        wanted = company(comparison.company, self.subject.universe)
        launched = self._replayed(wanted) if comparison.launch == "graph" else self.subject.start(wanted)
        places = _places(reference.company, wanted)
        pairs = [
            (_take(left, places), _take(right, wanted.compared))
            for left, right in zip(reference.outputs, launched.outputs, strict=True)
        ]
        return Trial(comparison, launched, places, pairs, [same_bits(left, right) for left, right in pairs])

    def _judge(self, trials: Sequence[Trial], relation: str) -> list[Counterexample | None]:
        """Wait once for some trials, and look closer at those that differ."""
        self.subject.check_inputs([trial.launched for trial in trials])
        same = torch.stack([flag for trial in trials for flag in trial.same]).tolist()
        found: list[Counterexample | None] = []
        for trial in trials:
            flags, same = same[: len(trial.same)], same[len(trial.same) :]
            found.append(None if all(flags) else self._look_closer(trial, flags.index(False), relation))
        return found

    def _look_closer(self, trial: Trial, output: int, relation: str) -> Counterexample:
        found = difference(*trial.pairs[output])
        assert found is not None
        launched = trial.launched
        deviants = launched.company.compared[list(found.differing_rows[:_DEVIANTS_CHECKED])]
        self._check_accuracy(launched.company, launched.outputs, deviants)
        return self._counterexample(trial, relation, found, output)

    def _reference_launch(self, spec: str) -> Launched:
        if self._reference is None or self._reference.company.spec != spec:
            self._reference = None  # let go of the old outputs before the new ones are made
            launched = self.subject.start(company(spec, self.subject.universe))
            self.subject.check_inputs([launched])
            self._reference = launched
            missing = sum(unwritten(output) for output in launched.outputs)
            if missing and not self._unwritten:
                self._unwritten = f"{missing} elements of the result were never written, in company {spec}"
        return self._reference

    def _replayed(self, wanted: Company) -> Launched:
        if wanted.size not in self._replays:
            self._replays.clear()
            self._replays[wanted.size] = self.subject.capture(company(f"first:{wanted.size}", self.subject.universe))
        return self._replays[wanted.size].start(wanted)

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
        companies = rows = 0
        broken: list[str] = []
        first: Counterexample | None = None
        for trials in self._batches(relation.comparisons(setting)):
            found = self._judge(trials, relation.name)
            companies += len(trials)
            rows += sum(len(trial.launched.company.compared) for trial in trials)
            broken += [t.comparison.company for t, one in zip(trials, found, strict=True) if one is not None]
            first = first or next((one for one in found if one is not None), None)
        return RelationResult(
            relation=relation.name,
            status="held" if first is None else "broken",
            companies=companies,
            rows=rows,
            broken_companies=len(broken),
            broken=tuple(broken),
            counterexample=first,
        )

    def _batches(self, comparisons: Iterable[Comparison]) -> Iterator[list[Trial]]:
        """Trials to wait for together: as many as a bounded amount of memory holds."""
        trials: list[Trial] = []
        held = 0
        for comparison in comparisons:
            trials.append(self._try(comparison))
            held += sum(tensor.nbytes for pair in trials[-1].pairs for tensor in pair)
            if held > _HELD_BYTES or len(trials) >= _HELD_TRIALS:
                yield trials
                trials, held = [], 0
        if trials:
            yield trials

    def _check_universe(self) -> None:
        """Compare every row of the universe with the reference."""
        launched = self._reference_launch(f"first:{self.subject.universe}")
        self._check_accuracy(launched.company, launched.outputs, launched.company.compared)

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

    def _counterexample(self, trial: Trial, relation: str, found: Difference, output: int) -> Counterexample:
        comparison, actual_in, places = trial.comparison, trial.launched.company, trial.places
        expected_in = company(comparison.reference, self.subject.universe)
        position = int(actual_in.compared[found.row])
        return Counterexample(
            relation=relation,
            reference=CompanyRef(
                spec=expected_in.spec, size=expected_in.size, launch="eager", position=int(places[found.row])
            ),
            company=CompanyRef(spec=actual_in.spec, size=actual_in.size, launch=comparison.launch, position=position),
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
    doubt = {
        "status": "inconclusive",
        "reason": "the kernel is not repeatable, which alone explains the difference",
    }
    return [
        result.model_copy(update=doubt) if result.status == "broken" and result.relation != "repeat" else result
        for result in results
    ]


def first_line(error: BaseException) -> str:
    """An error's own first line, or its type where it has none."""
    return next((line for text in str(error).splitlines() if (line := printable(text))), type(error).__name__)


def _places(reference: Company, other: Company) -> Ids:
    """Where each compared row of ``other`` stands in ``reference``."""
    place = np.full(max(reference.rows.max(), other.rows[other.compared].max()) + 1, -1, dtype=np.int64)
    place[reference.rows] = np.arange(reference.size)
    found: Ids = place[other.rows[other.compared]]
    if (found < 0).any():
        raise ValueError(f"company {other.spec} compares rows that {reference.spec} does not have")
    return found


def _take(tensor: torch.Tensor, positions: Ids) -> torch.Tensor:
    """The rows at some positions; a view where they follow each other."""
    first, count = int(positions[0]), len(positions)
    if np.array_equal(positions, np.arange(first, first + count)):
        return tensor[first : first + count]
    return tensor.index_select(0, torch.from_numpy(positions).to(tensor.device))


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
