"""Run the relations over a subject: bits against bits, and both against float64."""

from __future__ import annotations

import sys
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import torch

from kernels_bench.arms import Unsupported
from kernels_bench.console.text import first_line
from kernels_bench.device.cuda_graph import NotCapturable
from kernels_bench.device.errors import device_lost, is_out_of_memory
from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.records.rerun_commands import command_line
from kernels_bench.records.results import BatchRef, Counterexample, RelationResult, Verification
from kernels_bench.relations import Batch, Comparison, Relation, Setting, make_batch
from kernels_bench.verification.accuracy import AccuracyChecker
from kernels_bench.verification.bitwise import bits, difference, digest, same_bits
from kernels_bench.verification.kernel_under_test import CapturedLaunch, KernelFault, KernelUnderTest, LaunchResult
from kernels_bench.verification.poison import poisoned_allocations, unwritten
from kernels_bench.verification.row_alignment import RowAlignment, align_rows, take

# Rows of a deviating company that are compared with the reference too, at most.
_DEVIANTS_CHECKED = 32
# Trials whose outcome is waited for together: waiting costs more than comparing.
_HELD_TRIALS, _HELD_BYTES = 32, 256 << 20


@dataclass(frozen=True, eq=False)
class PendingComparison:
    """A comparison that was launched.

    Attributes:
        comparison: what is compared.
        launched: the company under test, without its outputs.
        pairing: the rows that are compared.
        pairs: for each of the operator's results, the compared rows' outputs in both companies.
        same: for each pair, whether all bits agree: booleans on the device.
    """

    comparison: Comparison
    launched: LaunchResult
    pairing: RowAlignment
    pairs: list[tuple[torch.Tensor, torch.Tensor]]
    same: list[torch.Tensor]

    @property
    def held(self) -> int:
        """Bytes that wait with it; of a company whose compared rows follow each other, those of all its rows."""
        return sum(expected.nbytes + got.untyped_storage().nbytes() for expected, got in self.pairs)


Broken = tuple[PendingComparison, int]
"""A trial that failed, and the number of the first of the operator's results in which some row differs."""


class Verifier:
    """Runs comparisons on one subject, keeping the outputs of the last reference company at hand.

    Attributes:
        subject: the kernel and its data.
    """

    def __init__(self, subject: KernelUnderTest, seed: int, plugin: str | None = None) -> None:
        self.subject = subject
        self._seed, self._plugin = seed, plugin
        self._referee = AccuracyChecker(subject)
        self._unwritten = ""
        self._reference: LaunchResult | None = None
        self._fresh: list[tuple[LaunchResult, torch.Tensor]] = []
        self._replays: dict[int, CapturedLaunch] = {}

    def verify(self, relations: Sequence[Relation], setting: Setting, digest_sizes: Sequence[int]) -> Verification:
        """Accuracy over the whole universe, digests of the first M rows, and every relation.

        Raises:
            KernelFault: the kernel writes into its inputs, or its result has a wrong form.
            Unsupported: the arm does not offer this case.
        """
        start = time.perf_counter()
        with poisoned_allocations(self.subject.device):
            self._check_universe()
            chosen = [relation for relation in relations if relation.applies_to(self.subject.operator.rows_are)]
            results = discount_if_not_repeatable([self._examine(relation, setting) for relation in chosen])
            digests = self._digests(digest_sizes, results)
            self._check_launches([])
        return Verification(
            case=self.subject.case,
            status="measured",
            wrong=self._unwritten or self._referee.inaccuracy(),
            relations=tuple(results),
            accuracy=self._referee.accuracy,
            digests=digests,
            universe=self.subject.universe,
            seconds=time.perf_counter() - start,
        )

    def compare(self, comparison: Comparison, relation: str) -> Counterexample | None:
        """Compare all rows that two companies have in common.

        Raises:
            KernelFault: see `KernelUnderTest.run`.
        """
        broken = self._judge([self._try(comparison)])
        return self._counterexample(*broken[0], relation) if broken else None

    def _digests(self, sizes: Sequence[int], results: Sequence[RelationResult]) -> dict[int, str]:
        """Of the first M rows' outputs; an M at which the kernel fails is left out if a relation tells of it."""
        found: dict[int, str] = {}
        for m in sizes:
            try:
                found[m] = digest(self._start(f"first:{m}").outputs)
            except Exception as error:
                self._setback(error)
                if not any(result.reason for result in results if result.status in ("broken", "failed")):
                    raise
        return found

    def _try(self, comparison: Comparison) -> PendingComparison:
        """Launch a comparison and have the device compare it; waits for nothing unless the reference is new."""
        reference = self._reference_launch(comparison.reference)
        wanted = make_batch(comparison.company, self.subject.universe)
        launched = self._replayed(wanted) if comparison.launch == "graph" else self.subject.start(wanted)
        lines = self.subject.lines
        pairing = align_rows(lines(reference.company), lines(wanted), self.subject.device)
        pairs = [
            (take(left, pairing.left), take(right, pairing.right))
            for left, right in zip(reference.outputs, launched.outputs, strict=True)
        ]
        same = [same_bits(left, right) for left, right in pairs]
        return PendingComparison(comparison, replace(launched, outputs=()), pairing, pairs, same)

    def _judge(self, trials: Sequence[PendingComparison]) -> list[Broken]:
        """Wait for some trials together, and compare rows that differ with float64."""
        self._check_launches([trial.launched for trial in trials])
        same = torch.stack([flag for trial in trials for flag in trial.same]).tolist()
        broken: list[Broken] = []
        for trial in trials:
            flags, same = same[: len(trial.same)], same[len(trial.same) :]
            if not all(flags):
                broken.append((trial, flags.index(False)))
        self._check_deviants(broken)
        return broken

    def _check_launches(self, launches: Sequence[LaunchResult]) -> None:
        """Inputs of these launches and of those that gave no trial; what the latter left unwritten."""
        fresh, self._fresh = self._fresh, []
        self.subject.check_inputs([*(launched for launched, _ in fresh), *launches])
        counts = torch.stack([missing for _, missing in fresh]).tolist() if fresh else []
        for (launched, _), count in zip(fresh, counts, strict=True):
            if count and not self._unwritten:
                self._unwritten = (
                    f"{count} elements of the result were never written, in company {launched.company.spec}"
                )

    def _check_deviants(self, broken: Sequence[Broken]) -> None:
        """Compare some of the rows that differ in each trial with the reference, all trials' together.

        A row that is right elsewhere and NaN beside a neighbour that is NaN depends on its batch: its counterexample
        tells of it, and the kernel is not called wrong whatever the batch.
        """
        broken = [one for one in broken if not one[0].launched.company.contagious]
        if not broken:
            return
        chosen = [_deviants(*trial.pairs[output]) for trial, output in broken]
        ids = [trial.pairing.ids_on_device[rows] for (trial, _), rows in zip(broken, chosen, strict=True)]
        outputs = [
            tuple(actual[rows] for _, actual in trial.pairs) for (trial, _), rows in zip(broken, chosen, strict=True)
        ]
        ends = list(accumulate(len(rows) for rows in chosen))
        self._referee.check(
            torch.cat(ids),
            tuple(torch.cat(parts) for parts in zip(*outputs, strict=True)),
            lambda position: broken[bisect_right(ends, position)][0].launched.company.spec,
        )

    def _reference_launch(self, spec: str) -> LaunchResult:
        if self._reference is None or self._reference.company.spec != spec:
            self._reference = None  # let go of the old outputs before the new ones are made
            self._reference = self._start(spec)
        return self._reference

    def _start(self, spec: str) -> LaunchResult:
        """Launch a company that is in no trial of its own; what is to be seen of it waits for the next trials."""
        launched = self.subject.start(make_batch(spec, self.subject.universe))
        missing = torch.stack([unwritten(output) for output in launched.outputs]).sum()
        self._fresh.append((replace(launched, outputs=()), missing))
        return launched

    def _replayed(self, wanted: Batch) -> LaunchResult:
        if wanted.size not in self._replays:
            self._replays.clear()
            self._replays[wanted.size] = self.subject.capture(make_batch(f"first:{wanted.size}", self.subject.universe))
        return self._replays[wanted.size].start(wanted)

    def _examine(self, relation: Relation, setting: Setting) -> RelationResult:
        """One relation's result; where a kernel fails or cannot be captured is no fault of the others."""
        if relation.needs_cuda and self.subject.device.type != "cuda":
            return RelationResult(relation=relation.name, status="unsupported", reason="needs a CUDA device")
        try:
            return self._count(relation, setting)
        finally:
            self._replays.clear()

    def _count(self, relation: Relation, setting: Setting) -> RelationResult:
        companies = rows = 0
        sizes: set[int] = set()
        broken: list[str] = []
        first: Counterexample | None = None
        status: Literal["held", "unsupported", "failed"] = "held"
        reason = ""
        try:
            for trials in self._batches(relation.comparisons(setting)):
                found = self._judge(trials)
                companies += len(trials)
                rows += sum(len(trial.pairing.ids) for trial in trials)
                sizes |= {trial.launched.company.size for trial in trials}
                broken += [trial.comparison.company for trial, _ in found]
                if found and first is None:
                    first = self._counterexample(*found[0], relation.name)
        except Exception as error:  # a kernel may raise anything, and what was found until then is found
            status, reason = self._setback(error)
        return RelationResult(
            relation=relation.name,
            status=status if first is None else "broken",
            reason=reason,
            companies=companies,
            rows=rows,
            sizes=tuple(sorted(sizes)),
            broken=tuple(broken),
            counterexample=first,
        )

    def _setback(self, error: Exception) -> tuple[Literal["unsupported", "failed"], str]:
        """What an error in a company makes of its relation; raised again if it concerns the whole case."""
        if isinstance(error, NotCapturable):
            return "unsupported", first_line(error)
        if isinstance(error, (KernelFault, Unsupported)) or is_out_of_memory(error):
            raise error
        if device_lost(self.subject.device):
            raise error
        sys.excepthook(type(error), error, error.__traceback__)
        return "failed", f"{type(error).__name__}: {first_line(error)}"

    def _batches(self, comparisons: Iterable[Comparison]) -> Iterator[list[PendingComparison]]:
        """Trials to wait for together: as many as a bounded amount of memory holds."""
        trials: list[PendingComparison] = []
        held = 0
        for comparison in comparisons:
            try:
                trials.append(self._try(comparison))
            except Exception:
                if trials:  # they are to be judged before
                    yield trials
                raise
            held += trials[-1].held
            if held > _HELD_BYTES or len(trials) >= _HELD_TRIALS:
                yield trials
                trials, held = [], 0
        if trials:
            yield trials

    def _check_universe(self) -> None:
        """Compare every row of the universe with the reference."""
        launched = self._reference_launch(f"first:{self.subject.universe}")
        ids = copy_to_device(self.subject.lines(launched.company).ids, self.subject.device)
        self._referee.check(ids, launched.outputs, lambda _: launched.company.spec)

    def _counterexample(self, trial: PendingComparison, output: int, relation: str) -> Counterexample:
        found = difference(*trial.pairs[output])
        assert found is not None
        comparison, actual_in = trial.comparison, trial.launched.company
        expected_in = make_batch(comparison.reference, self.subject.universe)
        row, token = self.subject.operator.locate_row(int(trial.pairing.ids[found.row]))
        return Counterexample(
            relation=relation,
            reference=BatchRef(
                spec=expected_in.spec,
                size=expected_in.size,
                launch="eager",
                position=int(trial.pairing.expected_at[found.row]),
            ),
            company=BatchRef(
                spec=actual_in.spec,
                size=actual_in.size,
                launch=comparison.launch,
                position=int(trial.pairing.got_at[found.row]),
            ),
            row=row,
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
            rows_compared=len(trial.pairing.ids),
            token=token,
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
        return command_line("reproduce", options=options)


def discount_if_not_repeatable(results: Sequence[RelationResult]) -> list[RelationResult]:
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


def _deviants(expected: torch.Tensor, got: torch.Tensor) -> torch.Tensor:
    """Positions of rows that differ, filled up with some that do not where too few do; waits for nothing."""
    count = min(_DEVIANTS_CHECKED, len(got))
    differs = (bits(expected) != bits(got)).reshape(len(got), -1).any(1)
    return differs.int().topk(count).indices
