"""What makes a run's counterexamples again."""

from __future__ import annotations

from collections.abc import Iterator

from kernels_bench.records.results import Counterexample, Verification
from kernels_bench.workers.messages import Reproduce


def reproductions(record: Verification, seed: int) -> Iterator[tuple[Reproduce, Counterexample]]:
    """A request for each counterexample that stands for a broken relation of a case, and the counterexample itself."""
    for result in record.relations:
        then = result.counterexample
        if result.status == "broken" and then is not None:
            request = Reproduce(
                case=record.case,
                seed=seed if then.seed is None else then.seed,
                universe=record.universe,
                lengths=record.lengths,
                relation=result.relation,
                reference=then.reference.spec,
                company=then.company.spec,
                launch=then.company.launch,
                before=then.before,
            )
            yield request, then
