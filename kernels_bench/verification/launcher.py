"""Launches comparisons on one subject: many batches of one reference together, as much as memory and time allow."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate

import torch

from kernels_bench.arms import Unsupported
from kernels_bench.operators import RowTensors
from kernels_bench.relations import Batch, Comparison, make_batch
from kernels_bench.relations.layout import RARER
from kernels_bench.relations.surroundings import AROUND
from kernels_bench.verification.bitwise import digests_of, summed, with_one_nan, with_one_nan_of_its_own
from kernels_bench.verification.subject.captured import CapturedLaunch, capture
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.subject.launch_forms import FormRefused
from kernels_bench.verification.subject.launched import LaunchResult
from kernels_bench.verification.subject.poison import unwritten
from kernels_bench.verification.subject.updated_weights import start_updated
from kernels_bench.verification.trials import TrialGroup, align_rows

# Groups whose outcome is waited for together: waiting costs more than comparing.
_HELD_GROUPS, _HELD_COMPANIES, _HELD_BYTES = 32, 1024, 256 << 20
# Companies that are compared by one comparison on the device, and the lines and bytes of their results.
_GROUPED, _GROUPED_LINES, _GROUPED_BYTES = 256, 1 << 15, 64 << 20
# Where time is short, groups are as large as can be seen within this many seconds.
_GROUP_S = 0.05
_WIDENED = {"fp16", "bf16"}


class Launcher:
    """Launches companies of one subject, keeping the outputs of the last reference company at hand.

    Attributes:
        subject: the kernel and its data.
        fresh: launches that are in no trial of their own, without their outputs, each with how many elements it left
            unwritten: a scalar on the device. Whoever waits for trials looks at them, and takes them away.
        cut_short: whether the last comparisons to be launched ended for want of time with one in hand.
    """

    def __init__(self, subject: KernelUnderTest) -> None:
        self.subject = subject
        self.fresh: list[tuple[LaunchResult, torch.Tensor]] = []
        self.cut_short = False
        self._reference: LaunchResult | None = None
        self._settled_last: tuple[LaunchResult, LaunchResult] | None = None
        self._replays: dict[int, CapturedLaunch] = {}

    def forget_reference(self) -> None:
        """Launch the next reference anew, since what the kernel gives may have changed."""
        self._reference = None

    def forget_graphs(self) -> None:
        """Let go of captured launches, and of their memory."""
        self._replays.clear()

    def groups(self, comparisons: Iterable[Comparison], until: float | None) -> Iterator[list[TrialGroup]]:
        """Groups to wait for together: as many as a bounded amount of memory holds, none begun after ``until``."""
        groups: list[TrialGroup] = []
        held = companies = 0
        for group, error in self._launched(comparisons, until):
            if group is not None:
                known = any(group.reference is one.reference for one in groups)
                held += group.held + (0 if known else sum(output.nbytes for output in group.reference.outputs))
                companies += len(group.comparisons)
                groups.append(group)
            full = held > _HELD_BYTES or len(groups) >= _HELD_GROUPS or companies >= _HELD_COMPANIES
            if groups and (full or error is not None or until is not None):
                yield groups
                groups, held, companies = [], 0, 0
            if error is not None:  # what was launched before it is judged now
                raise error
        if groups:
            yield groups

    def _launched(
        self, comparisons: Iterable[Comparison], until: float | None
    ) -> Iterator[tuple[TrialGroup | None, Exception | None]]:
        """Groups as they are launched, each with the error that ended it."""
        self.cut_short = False
        most = _GROUPED if until is None else 1
        waiting: list[Comparison] = []
        lines = 0
        for comparison in comparisons:
            own = self._lines_of(comparison.company)
            full = len(waiting) >= most or lines + own > min(_GROUPED_LINES, _GROUPED_BYTES // self.subject.line_bytes)
            if waiting and (full or not _grouped(comparison) or comparison.reference != waiting[0].reference):
                start = time.perf_counter()
                yield self._launch_together(waiting)
                now = time.perf_counter()
                if until is not None and now > until:
                    self.cut_short = True
                    return
                most = min(_GROUPED, 2 * most) if now - start < _GROUP_S else max(1, most // 2)
                waiting, lines = [], 0
            if _grouped(comparison):
                waiting.append(comparison)
                lines += own
                continue
            try:
                yield self.launch_one(comparison), None
            except Exception as error:  # raised again once what came before it was judged
                if not (isinstance(error, FormRefused) and comparison.launch in (*RARER, *AROUND)):
                    yield None, error
            if until is not None and time.perf_counter() > until:
                return
        if waiting:
            yield self._launch_together(waiting)

    def _lines_of(self, spec: str) -> int:
        return len(self.subject.lines(make_batch(spec, self.subject.universe)).ids)

    def _launch_together(self, comparisons: Sequence[Comparison]) -> tuple[TrialGroup | None, Exception | None]:
        """Some companies of one reference, as far as the kernel gets; waits for nothing unless the reference is new."""
        error: Exception | None = None
        done: list[Batch] = []
        try:
            reference = self.reference(comparisons[0].reference)
            companies = [make_batch(one.company, self.subject.universe) for one in comparisons]
            counts = [len(self.subject.lines(company).ids) for company in companies]
            outputs = tuple(output.new_empty((sum(counts), *output.shape[1:])) for output in reference.outputs)
            for company, at in zip(companies, accumulate(counts, initial=0), strict=False):
                self.subject.start_into(company, outputs, at)
                done.append(company)
        except Exception as reason:  # raised again once what came before it was judged
            error = reason
        if not done:
            return None, error
        outputs = tuple(output[: sum(counts[: len(done)])] for output in outputs)
        return self.compared(comparisons[: len(done)], done, reference, outputs), error

    def launch_one(self, comparison: Comparison) -> TrialGroup:
        """Launch a comparison and have the device compare it; waits for nothing unless the reference is new."""
        wanted = make_batch(comparison.company, self.subject.universe)
        if comparison.before is not None:
            launched = self._after(comparison.before, wanted)
            self._reference = None
            reference = self.reference(comparison.reference)
        elif comparison.launch == "updated":
            reference, launched = start_updated(self.subject, wanted)
        else:
            reference = self.reference(comparison.reference)
            replayed = comparison.launch == "graph"
            launched = self._replayed(wanted) if replayed else self.subject.start(wanted, comparison.launch)
        return self.compared([comparison], [wanted], reference, launched.outputs, [launched])

    def _after(self, before: Sequence[str], wanted: Batch) -> LaunchResult:
        """Launch a company after some others, whose results nobody looks at; that one was refused is no less a call."""
        for spec in before:
            with suppress(Unsupported, NotImplementedError):
                self.subject.start(make_batch(spec, self.subject.universe))
        return self.subject.start(wanted)

    def compared(
        self,
        comparisons: Sequence[Comparison],
        companies: Sequence[Batch],
        reference: LaunchResult,
        outputs: RowTensors,
        launches: Sequence[LaunchResult] = (),
    ) -> TrialGroup:
        """Have the device compare some companies' results, which stand one after the other, with their reference's."""
        lines = self.subject.lines
        others = tuple(lines(company) for company in companies)
        alignment = align_rows(lines(reference.company), others, self.subject.device)
        found = TrialGroup.compare(comparisons, companies, reference, alignment, outputs, launches)
        if self.subject.device.type == "cpu" and not all(map(bool, found.same)):
            reference, outputs = self._settled_reference(reference), self._settled(outputs)
            found = TrialGroup.compare(comparisons, companies, reference, alignment, outputs, launches)
        return found

    def reference(self, spec: str) -> LaunchResult:
        """The launch of a reference company: the last one, if it was of the same."""
        if self._reference is None or self._reference.company.spec != spec:
            self._reference = None  # let go of the old outputs before the new ones are made
            self._reference = self.start(spec)
        return self._reference

    def start(self, spec: str) -> LaunchResult:
        """Launch a company that is in no trial of its own; what is to be seen of it waits for the next trials."""
        launched = self.subject.start(make_batch(spec, self.subject.universe))
        missing = torch.stack([unwritten(output) for output in launched.outputs]).sum()
        self.fresh.append((LaunchResult(launched.company, (), launched.intact), missing))
        return launched

    def digest(self, spec: str) -> str:
        """Of a company's results; waits for the device."""
        return self.digest_of(self.start(spec).outputs)

    def digest_of(self, outputs: RowTensors) -> str:
        """Of results; waits for the device."""
        (found,) = digests_of([summed(self._settled(outputs))])
        return found

    def first_of(self, outputs: RowTensors, m: int) -> RowTensors:
        """What the results of more rows from the first on hold of the first ``m``."""
        lines = self._lines_of(f"first:{m}")
        return tuple(output[:lines] for output in outputs)

    def summed(self, spec: str) -> torch.Tensor:
        """What becomes a digest of a company's results, see `digests_of`."""
        return summed(self._settled(self.start(spec).outputs))

    def _settled_reference(self, reference: LaunchResult) -> LaunchResult:
        """The same object for the same launch: groups of one reference hold it once."""
        if self._settled_last is None or self._settled_last[0] is not reference:
            self._settled_last = reference, replace(reference, outputs=self._settled(reference.outputs))
        return self._settled_last[1]

    def _settled(self, outputs: RowTensors) -> RowTensors:
        """The same, with one NaN for all where its bits say nothing of the kernel.

        On a CPU torch widens 16 bits in whole vectors with other NaN than the elements that are left over, and makes
        others there as it takes maxima in fp32: which bits a NaN has depends on where in its tensor it stands, whoever
        computes with it. Whether the payload of a row's own NaN is kept in fp32 is the kernel's doing.
        """
        if self.subject.device.type != "cpu":
            return outputs
        return tuple(self._settled_one(output) for output in outputs)

    def _settled_one(self, output: torch.Tensor) -> torch.Tensor:
        precision = self.subject.case.precision
        widened = not _WIDENED.isdisjoint((precision.input, precision.output))
        settle = with_one_nan if widened or output.dtype is not torch.float32 else with_one_nan_of_its_own
        return settle(output)

    def _replayed(self, wanted: Batch) -> LaunchResult:
        if wanted.size not in self._replays:
            self._replays.clear()
            first = make_batch(f"first:{wanted.size}", self.subject.universe)
            self._replays[wanted.size] = capture(self.subject, first)
        return self._replays[wanted.size].start(wanted)


def _grouped(comparison: Comparison) -> bool:
    """Whether it can be compared together with others of its reference."""
    return comparison.launch == "eager" and comparison.before is None
