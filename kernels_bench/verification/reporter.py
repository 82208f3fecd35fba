"""A difference as a record, with the command that makes it again alone."""

from __future__ import annotations

from dataclasses import dataclass

from kernels_bench.records.rerun_commands import command_line
from kernels_bench.records.results import BatchRef, Counterexample
from kernels_bench.relations import Comparison
from kernels_bench.verification.bitwise import difference
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.trials import BrokenTrial


@dataclass(frozen=True, eq=False)
class Reporter:
    """Makes records of one subject's differences.

    Attributes:
        subject: the kernel and its data.
        seed: of the data.
        plugin: the file that the arm comes from, if it is not one of ours.
        usual_seed: of the run; that of the data may be another.
    """

    subject: KernelUnderTest
    seed: int
    plugin: str | None
    usual_seed: int

    def counterexample(self, trial: BrokenTrial, relation: str) -> Counterexample:
        """The first row that differs in a trial."""
        found = difference(*trial.pair(trial.output))
        assert found is not None
        comparison, alignment = trial.comparison, trial.group.alignment
        expected_in, actual_in = trial.group.reference.company, trial.company
        line = trial.part.start + found.row
        row, token = self.subject.operator.locate_row(int(alignment.ids[line]))
        return Counterexample(
            relation=relation,
            reference=BatchRef(
                spec=expected_in.spec,
                size=expected_in.size,
                launch="eager",
                position=int(alignment.expected_at[line]),
            ),
            company=BatchRef(
                spec=actual_in.spec,
                size=actual_in.size,
                launch=comparison.launch,
                position=int(alignment.got_at[line]),
            ),
            row=row,
            output=trial.output,
            index=found.index,
            expected=found.values[0],
            got=found.values[1],
            expected_bits=found.patterns[0],
            got_bits=found.patterns[1],
            ulp=found.ulp,
            max_ulp=found.max_ulp,
            elements=found.elements,
            rows=found.rows,
            rows_compared=trial.part.stop - trial.part.start,
            token=token,
            before=comparison.before,
            seed=None if self.seed == self.usual_seed else self.seed,
            command=self.command(comparison, relation),
        )

    def command(self, comparison: Comparison, relation: str) -> str:
        """Makes one comparison again."""
        case = self.subject.case
        options = {
            "op": case.operator,
            "arm": case.arm,
            "shape": case.shape.token,
            "dtype": str(case.precision),
            "seed": str(self.seed),
            "universe": str(self.subject.universe),
            "length": ",".join(map(str, self.subject.operator.asked)) or None,
            "relation": relation,
            "reference": comparison.reference,
            "batch": comparison.company,
            "launch": comparison.launch,
            "before": None if comparison.before is None else ",".join(comparison.before) or "nothing",
            "plugin": self.plugin,
        }
        return command_line("reproduce", options=options)
