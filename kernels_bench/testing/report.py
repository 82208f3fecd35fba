"""What came out for one kernel: a record, and its words."""

from __future__ import annotations

import html
from collections.abc import Iterator

from kernels_bench.records.cases import Device
from kernels_bench.records.results import Counterexample, RelationResult, Verification
from kernels_bench.report.sentences import WORDS, and_, case_text, cases
from kernels_bench.report.summary.coverage import among_few
from kernels_bench.report.summary.findings_text import describe, extent
from profiles.run_files.record import Record


class Report(Record):
    """What was found out about one kernel.

    Attributes:
        kernel: its name.
        operator: what it computes.
        device: what it ran on.
        judged: whether there was a reference to hold results against; if not, nobody says that they are right.
        verifications: one for each shape and dtype.
        seconds: wall time.
    """

    kernel: str
    operator: str
    device: Device
    judged: bool
    verifications: tuple[Verification, ...]
    seconds: float

    @property
    def held(self) -> bool:
        """Whether no bit changed with the batch in any case, and no result was found wrong.

        Bits of an operator that depends on its batch by definition may change as the definition says.
        It is False too where a case could not be examined: `summary` says why.
        """
        return all(one.verdict in _HELD for one in self.verifications)

    @property
    def counterexamples(self) -> tuple[Counterexample, ...]:
        """The first counterexample of every relation that the verdict counts, case by case."""
        return tuple(found for one in self.verifications for _, found in _broken(one))

    @property
    def batches(self) -> int:
        """How many batches were compared with a reference."""
        return sum(result.companies for one in self.verifications for result in one.relations)

    def summary(self) -> str:
        """What was found, in lines: the verdict, each case that did not hold, and what was not looked at."""
        return "\n".join([self._headline(), *self._failures(), *self._remarks()])

    def failure(self) -> str:
        """What an assertion says: the first case that did not hold, its first counterexample, and which others."""
        bad = [one for one in self.verifications if one.verdict not in _HELD]
        lines = [self._headline(), *_told(bad[0], most=1)]
        if len(bad) > 1:
            lines.append(f"and in {len(bad) - 1} more of {len(self.verifications)} cases: {_cases(bad[1:])}")
        return "\n".join(lines)

    def _headline(self) -> str:
        if self.held:
            count = cases(len(self.verifications))
            if any(one.verdict == "defined" for one in self.verifications):
                return f"{self.kernel} ({self.operator}) changed bits with the batch as its definition says, {count}"
            return f"{self.kernel} ({self.operator}) kept its bits in {self.batches:,} batches, {count}"
        verdicts = {one.verdict for one in self.verifications}
        said = next(text for verdict, text in _SAID.items() if verdict in verdicts)
        return f"{self.kernel} ({self.operator}) {said}"

    def _failures(self) -> Iterator[str]:
        for one in self.verifications:
            if one.verdict not in _HELD:
                yield from _told(one)

    def _remarks(self) -> Iterator[str]:
        """What a reader must know beside the verdict."""
        for why in dict.fromkeys(one.depends_on_batch for one in self.verifications if one.depends_on_batch):
            yield f"{self.operator} depends on the batch by definition: {why}"
        yield from dict.fromkeys(among_few(one) for one in self.verifications if one.refused)
        if self.held:
            yield from self._extent()
        if not self.judged:
            yield f"whether results are right was not judged: {self.operator} has no reference"
        free = [(one.case, found) for one in self.verifications for found in one.relations if not found.binding]
        for case, found in free:
            if found.counterexample is not None:
                yield f"{case_text(case)}: {describe(found.counterexample)}; no verdict counts it: it was not claimed"
        if unseen := dict.fromkeys(_unseen(self.verifications)):
            yield f"not examined: {'; '.join(unseen)}"

    def _extent(self) -> Iterator[str]:
        """What was tried in every case, at least, and what a change that comes by chance would have to be seen."""
        found = [{one.relation: one for one in case.relations} for case in self.verifications]
        tried = [case["batch_size"].sizes for case in found if "batch_size" in case and case["batch_size"].sizes]
        power = min((one.power for case in found for one in case.values() if one.power), default=0)
        if tried:
            fewest = min(tried, key=len)
            less = "; there was more to try than time (budget_s)" if self._cut() else ""
            yield f"tried {len(fewest)} M from {fewest[0]} to {fewest[-1]}, at least{less}"
        if power:
            yield f"a change in one call of {power} would have been seen with 99 %"

    def _cut(self) -> bool:
        return any(one.cut for case in self.verifications for one in case.relations)

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        """A table of the cases, for notebooks."""
        rows = "".join(
            f"<tr><td>{html.escape(case_text(one.case))}</td>"
            f"<td>{html.escape(WORDS.get(one.verdict, one.verdict))}</td>"
            f"<td>{sum(result.companies for result in one.relations):,}</td>"
            f"<td>{'<br>'.join(map(html.escape, [] if one.verdict in _HELD else list(_told(one))))}</td></tr>"
            for one in self.verifications
        )
        remarks = "".join(f"<p>{html.escape(line)}</p>" for line in self._remarks())
        heads = "".join(f"<th>{head}</th>" for head in ("case", "bits", "batches", "what was found"))
        title = html.escape(self._headline())
        return f"<p><b>{title}</b></p><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{remarks}"


_HELD = ("sampled", "defined")

_SAID = {
    "wrong": "gave a wrong result",
    "variant": "changed bits with the batch",
    "failed": "could not be verified",
    "unsupported": "could not be verified",
    "skipped": "could not be verified",
    "inconclusive": "could not be judged",
}
"""The gravest first."""


def _cases(verifications: list[Verification]) -> str:
    return and_([case_text(one.case) for one in verifications])


def _broken(one: Verification) -> Iterator[tuple[RelationResult, Counterexample]]:
    for result in one.relations:
        if result.status == "broken" and result.binding and result.counterexample is not None:
            yield result, result.counterexample


def _told(one: Verification, most: int | None = None) -> Iterator[str]:
    """Why one case did not hold, in lines; of more counterexamples than ``most`` only the relations."""
    where, broken = case_text(one.case), list(_broken(one))
    if one.wrong:
        yield f"{where}: {one.wrong}"
    for result, found in broken[:most]:
        yield f"{where}: {describe(found)}{extent(result)}"
        yield f"    {found.command or _by_hand(found)}"
    if others := [] if most is None else [result.relation for result, _ in broken[most:]]:
        yield f"{where}: {and_(others)} broke, too"
    if one.reason:
        yield f"{where}: {one.reason}"
    for result in one.relations:
        if result.status in ("failed", "inconclusive") and result.binding:
            yield f"{where}: {result.relation} {result.status}: {result.reason}"


def _by_hand(found: Counterexample) -> str:
    how = "" if found.company.launch == "eager" else f", launched as {found.company.launch}"
    return f"batch {found.company.spec} against {found.reference.spec}{how}"


def _unseen(verifications: tuple[Verification, ...]) -> Iterator[str]:
    for one in verifications:
        for result in one.relations:
            if result.status == "unsupported":
                yield f"{result.relation} ({result.reason})"
