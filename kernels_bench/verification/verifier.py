"""Run the relations over a subject: bits against bits, and both against float64."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.operators.base import largest
from kernels_bench.records.cases import Claims, claimed
from kernels_bench.records.results import Counterexample, RelationResult, Verification, power_of
from kernels_bench.relations import Comparison, Relation, Setting
from kernels_bench.relations.base import no_draw, nothing_more
from kernels_bench.relations.special_values import SPECIALS
from kernels_bench.verification.accuracy import AccuracyChecker
from kernels_bench.verification.bitwise import digests_of
from kernels_bench.verification.cause import Inquest
from kernels_bench.verification.launcher import Launcher
from kernels_bench.verification.relation_results import Found, Tally, discount_if_not_repeatable, together
from kernels_bench.verification.reporter import Reporter
from kernels_bench.verification.setbacks import Setbacks
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.subject.launched import LaunchResult
from kernels_bench.verification.subject.poison import poisoned_allocations
from kernels_bench.verification.trials import BrokenTrial, TrialGroup

# Results of the first launch of all that are kept until the last one.
_FIRST_BYTES = 256 << 20

_SLOW_S, _PATIENCE_S = 0.25, 5.0
"""A kernel that takes longer for the universe, under Triton's interpreter, say, is given so many seconds a relation."""

_OF_ALL = 0.75
"""And to all relations this share of the time in which there must be an answer: the rest is for what is beside them."""

_BATCHES_S = 0.5
"""So long batches of an operator that depends on them are compared with the reference."""

HAZARDOUS = 0.25
"""What relations that may end the process get besides, as a share of the time for further comparisons."""
OTHER_DATA = 0.4
"""Share of the time for further comparisons that goes to rows of other seeds."""
MANY_ELEMENTS, MOST_DATA, SEEDS_APART = 1 << 22, 400, 1_000_003
"""Elements of a universe's result of which enough are near the edge of a 16-bit number; universes of other seeds."""


class Verifier:
    """Examines relations on one subject.

    Args:
        subject: the kernel and its data.
        seed: of the data, for commands that make a counterexample again.
        plugin: the arm's, likewise.
        claims: the relations that the arm says it keeps.
        usual_seed: the run's seed, where the data are of another.

    Attributes:
        subject: the kernel and its data.
    """

    def __init__(
        self,
        subject: KernelUnderTest,
        seed: int,
        plugin: str | None = None,
        claims: Claims = True,
        usual_seed: int | None = None,
    ) -> None:
        self.subject = subject
        self._claims = claims
        self._launcher = Launcher(subject)
        self._reporter = Reporter(subject, seed, plugin, seed if usual_seed is None else usual_seed)
        self._referee = AccuracyChecker(subject)
        self._setbacks = Setbacks(subject)
        self._unwritten = ""
        self._further_s = 0.0
        self._slow = False
        self._deadline, self._left = math.inf, 0
        self._to_first = False
        self._first: list[LaunchResult] = []
        self._blamed: dict[str, Counterexample] = {}

    def verify(
        self,
        relations: Sequence[Relation],
        setting: Setting,
        digest_sizes: Sequence[int],
        more_s: float = 0.0,
        *,
        to_first: bool = False,
        limit_s: float = math.inf,
    ) -> Verification:
        """Accuracy over the whole universe, digests of the first M rows, and every relation.

        Args:
            relations: those to examine, as far as they have a meaning here.
            setting: what they choose from.
            digest_sizes: each M whose first rows' outputs are digested.
            more_s: seconds for the relations' further comparisons, beyond those of every run.
            to_first: leave the relations out that follow the first which is broken.
            limit_s: seconds after which an answer is of no use any more.

        Raises:
            KernelFault: the kernel writes into its inputs, or its result has a wrong form.
            Unsupported: the arm does not offer this case.
        """
        start, data = time.perf_counter(), self.subject.data_digest()
        self._to_first = to_first
        with poisoned_allocations(self.subject.device):
            self._check_universe()
            chosen = [relation for relation in relations if relation.applies_to(self.subject.operator.rows_are)]
            self._deadline, self._left = start + _OF_ALL * limit_s, len(chosen)
            self._keep_first_special(chosen)
            self._check_batches(setting)
            found = self._examine_safe(chosen, setting, more_s)
            digests, special = self._digests(digest_sizes, found), self._digest_of_special(found)
            self._check_launches([])
            found += self._examine_hazardous(found, chosen, setting, more_s)
            results = discount_if_not_repeatable(self._lay_blame(found))
            changed = self._changed_at_last(digests, results)
        verification = Verification(
            case=self.subject.case,
            status="measured",
            wrong=self._unwritten or self._referee.inaccuracy() or self._setbacks.weightless,
            relations=tuple(results),
            accuracy=self._referee.accuracy,
            digests=digests,
            special_digest=special,
            universe=self.subject.universe,
            seconds=time.perf_counter() - start,
            fatal=self._setbacks.lost,
            depends_on_batch=self.subject.operator.depends_on_batch,
            data=data,
        )
        return _with_changes(verification, changed)

    def _examine_safe(self, chosen: Sequence[Relation], setting: Setting, more_s: float) -> list[RelationResult]:
        """Results of the relations that leave the process alive, over the run's own rows and over those of others."""
        safe = [relation for relation in chosen if not relation.hazardous]
        found = self._examine_all(safe, setting, more_s * (1 - OTHER_DATA))
        self._compare_first_with_last(found)
        return self._on_other_data(found, safe, setting, more_s * OTHER_DATA)

    def _examine_hazardous(
        self, found: Sequence[RelationResult], chosen: Sequence[Relation], setting: Setting, more_s: float
    ) -> list[RelationResult]:
        """Results of those that may end it, once all else is known; none where a first difference is enough."""
        self._setbacks.all_else_is_known = True
        if self._to_first and any(result.status == "broken" for result in found):
            return []
        return self._examine_all([one for one in chosen if one.hazardous], setting, more_s * HAZARDOUS)

    def _changed_at_last(self, digests: Mapping[int, str], results: Sequence[RelationResult]) -> list[int]:
        """The smallest and the largest M whose bits are others now: what the last relations changed, and left so."""
        asked = "history" in {one.relation for one in results if one.status == "held"}
        broken = any(one.status == "broken" for one in results if one.binding)
        if self._setbacks.lost or not digests or not asked or broken:
            return []
        again = self._digests((min(digests), max(digests)), results)
        return [m for m in again if again[m] != digests[m]]

    def _examine_all(self, relations: Sequence[Relation], setting: Setting, more_s: float) -> list[RelationResult]:
        """Every relation's result; time that one leaves for its further comparisons is the others'."""
        found: list[RelationResult] = []
        waiting = sum(relation.more is not nothing_more for relation in relations)
        for relation in relations:
            start = self._further_s
            mine = more_s / waiting if waiting and relation.more is not nothing_more else 0.0
            result = self._examine(relation, setting, mine)
            self._left -= 1
            if result.companies or result.status != "held":  # of what there is no batch to try nothing is said
                found.append(result)
            if self._to_first and result.status == "broken":
                break
            if relation.more is not nothing_more:
                more_s, waiting = max(0.0, more_s - (self._further_s - start)), waiting - 1
        return found

    def _compare_first_with_last(self, results: Sequence[RelationResult]) -> None:
        """Compare the first launch of all with one after thousands, and lay at `history`'s door what changed for good.

        Each comparison has its reference launched shortly before, so that what a kernel changes once, and keeps, is
        seen by none of them but in the moment of the change.
        """
        kept, self._first = self._first, []
        repeatable = all(result.status == "held" for result in results if result.relation in ("repeat", "history"))
        for first in kept if repeatable else ():
            comparison = Comparison(first.company.spec, first.company.spec)
            again = self._launcher.start(first.company.spec)
            broken = self._judge([self._launcher.compared([comparison], [first.company], first, again.outputs)])
            if broken:
                self._blamed.setdefault("history", self._reporter.counterexample(broken[0], "history"))

    def _on_other_data(
        self, results: Sequence[RelationResult], relations: Sequence[Relation], setting: Setting, seconds: float
    ) -> list[RelationResult]:
        """The results with what is seen of rows of other seeds, where a result of few elements in 16 bits hides most.

        Another order of addition moves a sum by a unit in the last place of fp32, which one 16-bit element in some
        30,000 shows.
        """
        found = {result.relation: result for result in results}
        elements = sum(math.prod(size) for size in self.subject.result_shapes(setting.universe))
        if elements > MANY_ELEMENTS or self.subject.case.precision.output == "fp32":
            return list(results)
        until = time.perf_counter() + seconds
        drawing = [one for one in relations if one.name in found and one.drawn is not no_draw]
        if not drawing:  # of further data nothing would be asked
            return list(results)
        for number in range(1, MOST_DATA + 1):
            if time.perf_counter() > until or any(found[one.name].status != "held" for one in drawing):
                break
            seed = self._reporter.seed + number * SEEDS_APART
            other = Verifier(
                self.subject.with_seed(seed), seed, self._reporter.plugin, self._claims, self._reporter.seed
            )
            for relation in drawing:
                seen = other._drawn(relation, setting, number)
                found[relation.name] = together(found[relation.name], seen)
            self._blamed |= other._blamed
        return list(found.values())

    def _drawn(self, relation: Relation, setting: Setting, number: int) -> RelationResult:
        """What one relation finds over this verifier's own data."""
        return self._count(
            replace(relation, comparisons=partial(relation.drawn, number), more=nothing_more), setting, 0
        )

    def compare(self, comparison: Comparison, relation: str) -> Counterexample | None:
        """Compare all rows that two companies have in common.

        Raises:
            KernelFault: see `KernelUnderTest.run`.
        """
        broken = self._judge([self._launcher.launch_one(comparison)])
        return self._reporter.counterexample(broken[0], relation) if broken else None

    def _digests(self, sizes: Sequence[int], results: Sequence[RelationResult]) -> dict[int, str]:
        """Of the first M rows' outputs; an M at which the kernel fails is left out if a relation tells of it."""
        told_already = any(result.reason for result in results if result.status in ("broken", "failed"))
        sums: dict[int, torch.Tensor] = {}
        for m in sizes:
            try:
                sums[m] = self._launcher.summed(f"first:{m}")
            except Exception as error:
                self._setbacks.outcome(error)
                if not told_already:
                    raise
        return dict(zip(sums, digests_of([*sums.values()]), strict=True))

    def _digest_of_special(self, results: Sequence[RelationResult]) -> str:
        """Of the special rows by themselves; nothing where they were not compared, or depend on their batch.

        Those that depend on no neighbour are judged, too.
        """
        if not any(one.relation == "special_values" and one.status == "held" for one in results):
            return ""
        launched, operator = self._launcher.start(SPECIALS), self.subject.operator
        if operator.has_reference and not operator.depends_on_batch and operator.rows_are in ("rows", "routed"):
            ids = copy_to_device(self.subject.lines(launched.company).ids, self.subject.device)
            self._referee.check_special(ids, launched.outputs, launched.company.spec)
        return self._launcher.digest_of(launched.outputs)

    def _judge(self, groups: Sequence[TrialGroup]) -> list[BrokenTrial]:
        """Wait for some groups together; the companies in which some row differs."""
        launches = [launched for group in groups for launched in group.launches]
        same = self._check_launches(launches, [flag for group in groups for flag in group.same])
        broken: list[BrokenTrial] = []
        for group in groups:
            flags, same = same[: len(group.same)], same[len(group.same) :]
            if not all(flags):
                broken += group.broken()
        return broken

    def _check_launches(self, launches: Sequence[LaunchResult], flags: Sequence[torch.Tensor] = ()) -> list[bool]:
        """Inputs of these launches and of those that gave no trial, and what the latter left unwritten.

        Args:
            launches: they.
            flags: booleans on the device, which are given back from the host.
        """
        fresh, self._launcher.fresh = self._launcher.fresh, []
        counted = [missing for _, missing in fresh]
        asked = [torch.stack([*column]) for column in (flags, counted) if column]
        told = self.subject.check_inputs([*(launched for launched, _ in fresh), *launches], asked)
        for (launched, _), count in zip(fresh, told[len(flags) :], strict=True):
            if count and not self._unwritten:
                self._unwritten = f"{count} elements of the result were never written, in batch {launched.company.spec}"
        return [bool(flag) for flag in told[: len(flags)]]

    def _check_universe(self) -> None:
        """Compare every row of the universe with the reference."""
        start = time.perf_counter()
        launched = self._launcher.reference(f"first:{self.subject.universe}")
        if time.perf_counter() - start > _SLOW_S:  # a GPU is not waited for, and has no such kernels
            start = time.perf_counter()
            self.subject.start(launched.company)  # the first call may have compiled something
            self._slow = time.perf_counter() - start > _SLOW_S
        if sum(output.nbytes for output in launched.outputs) <= _FIRST_BYTES:
            self._first = [launched]
        ids = copy_to_device(self.subject.lines(launched.company).ids, self.subject.device)
        self._referee.check(ids, launched.outputs, lambda _: launched.company.spec)
        if self._referee.inaccuracy():
            # A result that is wrong in the first call alone depends on what was called before: `repeat` tells.
            again = self.subject.start(launched.company)
            referee = AccuracyChecker(self.subject)
            referee.check(ids, again.outputs, lambda _: launched.company.spec)
            if not referee.inaccuracy():
                self._referee = referee

    def _check_batches(self, setting: Setting) -> None:
        """Compare batches of other sizes with the reference, where a row's result depends on its batch by definition.

        No other batch has the bits that are right there. Of each size these are the first rows of all, and those that
        end and that begin with the row of the largest numbers, which a maximum over a part of the batch leaves out.
        """
        operator, universe = self.subject.operator, self.subject.universe
        if not (operator.depends_on_batch and operator.has_reference):
            return
        floats = [table for table in self.subject.tables if table.is_floating_point() and len(table) >= universe]
        top = int(largest(floats[0][:universe]).argmax()) if floats and operator.rows_are == "rows" else 0
        until = time.perf_counter() + _BATCHES_S
        for m in setting.by_worth:
            for spec in (f"first:{m}", f"from:{m}:{(top + 1 - m) % universe}", f"from:{m}:{top}"):
                if time.perf_counter() > until or self._referee.inaccuracy():
                    return
                try:
                    launched = self._launcher.start(spec)
                except Exception as error:  # the relations tell of it, unless nothing more can be told at all
                    self._setbacks.outcome(error)
                    break
                ids = copy_to_device(self.subject.lines(launched.company).ids, self.subject.device)
                self._referee.check_whole(ids, launched.outputs, spec)

    def _keep_first_special(self, relations: Sequence[Relation]) -> None:
        """Launch the special rows before all else but the universe: what flushes zeros later on shows in them alone."""
        if not self._first or not any(relation.name == "special_values" for relation in relations):
            return
        try:
            self._first.append(self._launcher.start(SPECIALS))
        except Exception as error:  # told by the relation that compares them, unless nothing more can be told at all
            self._setbacks.outcome(error)

    def _examine(self, relation: Relation, setting: Setting, more_s: float) -> RelationResult:
        """One relation's result; where a kernel fails or cannot be captured is no fault of the others."""
        if relation.needs_cuda and self.subject.device.type == "cpu":
            reason = "needs a CUDA device"
            found = RelationResult(relation=relation.name, status="unsupported", reason=reason)
            return found.model_copy(update={"binding": self._is_binding(relation, None)})
        try:
            found = self._count(relation, setting, more_s)
        finally:
            self._launcher.forget_graphs()
        return found.model_copy(update={"binding": self._is_binding(relation, found.counterexample)})

    def _is_binding(self, relation: Relation, broken_by: Counterexample | None) -> bool:
        """Whether the arm has a relation to keep, or to keep what broke it; that it claims everything names none."""
        if not relation.is_optional(self.subject.operator.rows_are):
            return True
        promised = claimed(self._claims, relation.name)
        if relation.optional:
            return promised
        by_name = promised and not isinstance(self._claims, bool)
        return by_name or broken_by is None or broken_by.company.launch not in relation.callers

    def _until(self) -> float | None:
        """When a relation is to be done with, as `time.perf_counter` counts; None where there is no hurry."""
        if not self._slow:
            return None
        now = time.perf_counter()
        return now + max(0.0, min(_PATIENCE_S, (self._deadline - now) / max(1, self._left)))

    def _count(self, relation: Relation, setting: Setting, more_s: float) -> RelationResult:
        """All comparisons of a relation, those of every run and then further ones, counted and judged."""
        tally = Tally()
        launched, began = self.subject.launches, time.perf_counter()
        status: Found = "held"
        reason, cut = "", False
        try:
            usual, further = iter(relation.comparisons(setting)), iter(relation.more(setting))
            for groups in self._launcher.groups(usual, self._until()):
                self._tell(groups, relation.name, tally)
            cut = self._launcher.cut_short or next(usual, None) is not None
            start = time.perf_counter()
            if more_s and not cut:
                for groups in self._launcher.groups(further, start + more_s):
                    self._tell(groups, relation.name, tally)
            self._further_s += time.perf_counter() - start
            cut |= self._launcher.cut_short or next(further, None) is not None
        except Exception as error:  # a kernel may raise anything, and what was found until then is found
            status, reason = self._setbacks.outcome(error)
        power = power_of(self.subject.launches - launched)
        return tally.result(relation.name, status, reason, power, cut=cut, seconds=time.perf_counter() - began)

    def _tell(self, groups: Sequence[TrialGroup], relation: str, tally: Tally) -> None:
        """Judge some groups; of the first difference find out what it depends on."""
        broken = self._judge(groups)
        for group in groups:
            tally.add(group)
        tally.broken += [one.comparison.company for one in broken]
        defined = [one for one in broken if self._is_defined(one)]
        broken = [one for one in broken if one not in defined]
        if defined and tally.defined is None:
            tally.defined = self._reporter.counterexample(defined[0], relation)
        if broken and tally.first is None:
            tally.first = self._reporter.counterexample(broken[0], relation)
            blame = Inquest(self._reporter, broken[0], tally.first).blame()
            self._launcher.forget_reference()  # what the kernel gives may have changed with the calls that this took
            if blame is not None:
                tally.blamed = blame.reason
                self._blamed.setdefault(blame.counterexample.relation, blame.counterexample)
        if not tally.blamed:
            self._referee.check_deviants(broken)

    def _is_defined(self, trial: BrokenTrial) -> bool:
        """Whether a difference is what the operator's definition asks for.

        The batches had other rows, or the same in an order that counts by the reference, too.
        """
        reference, batch = trial.group.reference.company, trial.company
        if not self.subject.operator.depends_on_batch or np.array_equal(reference.rows, batch.rows):
            return False
        if not np.array_equal(np.sort(reference.rows), np.sort(batch.rows)):
            return True
        lines, others = (copy_to_device(self.subject.lines(one).ids, self.subject.device) for one in (reference, batch))
        return self._referee.order_counts(lines, others)

    def _lay_blame(self, results: Sequence[RelationResult]) -> list[RelationResult]:
        """The results, where those that differences were laid at the door of are broken too."""
        found = {result.relation: result for result in results}
        for name, counterexample in self._blamed.items():
            known = found.get(name) or RelationResult(
                relation=name, status="held", sizes=(counterexample.company.size,)
            )
            # It was met in batches that are no other relation's to leave to the callers: it counts.
            update: dict[str, object] = {"binding": True}
            if known.status != "broken":
                update |= {"counterexample": counterexample, "broken": (counterexample.company.spec,)}
                update |= {"status": "broken", "reason": ""}
            found[name] = known.model_copy(update=update)
        return list(found.values())


def _with_changes(found: Verification, changed: Sequence[int]) -> Verification:
    """The same where the last relations have changed for good what some M give."""
    if not changed:
        return found
    reason = f"after large batches, rows that lay elsewhere and other surroundings it gave other bits at M={changed[0]}"
    return found.changed_by_calls(reason, tuple(f"first:{m}" for m in changed))
