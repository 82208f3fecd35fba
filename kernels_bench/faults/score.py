"""The detector's own score: every fault must be flagged, and no control."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault
from kernels_bench.operators import operators
from kernels_bench.order.batch_sweep import Task
from kernels_bench.order.case_order import order_of
from kernels_bench.records.cases import Case, Precision
from kernels_bench.records.results import Verification
from kernels_bench.relations import Setting, relations
from kernels_bench.relations.base import sweep
from kernels_bench.verification.kernel_under_test import KernelFault, KernelUnderTest
from kernels_bench.verification.verifier import Verifier
from profiles.run_files.record import Record

UNIVERSE = 65
FLAGGED = ("variant", "wrong")


class Score(Record):
    """What the detector made of one fault and of its control.

    Attributes:
        fault: its name.
        cause: in a line.
        seed: of all data.
        verdict: of the kernel with the fault.
        flagged_by: the first relation that broke, ``reference`` (a wrong result or written inputs) or ``order``.
        companies: how many companies had been compared until then.
        by_order: whether the order of addition alone shows it.
        by_random: whether comparing results of random inputs, as tests do, shows it.
        control: verdict of the kernel without the fault.
    """

    fault: str
    cause: str
    seed: int
    verdict: str
    flagged_by: str
    companies: int
    by_order: bool
    by_random: bool
    control: str

    @property
    def right(self) -> bool:
        """Whether the fault was flagged and its control was not."""
        return self.verdict in FLAGGED and self.control not in (*FLAGGED, "inconclusive", "failed")


def score(fault: Fault, seed: int, device: torch.device) -> Score:
    """Run the detector over a fault and its control."""
    found, control = (_examined(fault, kernel, seed, device) for kernel in (fault.make(), fault.control()))
    flagged_by, companies = _first_sign(found)
    return Score(
        fault=fault.name,
        cause=fault.cause,
        seed=seed,
        verdict=found.verdict,
        flagged_by=flagged_by,
        companies=companies,
        by_order=found.order is not None and found.order.status == "variant",
        by_random=random_inputs_differ(fault, seed, device),
        control=control.verdict,
    )


def _case(fault: Fault) -> Case:
    precision = Precision.parse(fault.precision)
    return Case(arm=fault.name, operator=fault.operator, shape=fault.shape, precision=precision)


def _examined(fault: Fault, kernel: Kernel, seed: int, device: torch.device) -> Verification:
    """Everything that a run does with a case, but its speed."""
    case, operator = _case(fault), operators()[fault.operator]
    subject = KernelUnderTest(case, operator, kernel, seed=seed, universe=UNIVERSE, device=device)
    sizes = sweep(UNIVERSE)
    try:
        found = Verifier(subject, seed).verify(list(relations().values()), Setting(UNIVERSE, sizes), sizes)
    except KernelFault as reason:
        return Verification(case=case, status="measured", wrong=str(reason), universe=UNIVERSE)
    if found.wrong or not operator.probe_sum_count(case.shape, 1):
        return found
    order, _ = order_of(case, operator, kernel, Task(sizes, seed, 60.0), device)
    return found.model_copy(update={"order": order})


def _first_sign(found: Verification) -> tuple[str, int]:
    """What showed the fault, and after how many companies."""
    companies = 0
    if found.wrong:
        return "reference", companies
    setting = Setting(UNIVERSE, sweep(UNIVERSE))
    for result in found.relations:
        if result.status == "broken":
            tried = [one.company for one in relations()[result.relation].comparisons(setting)]
            return result.relation, companies + 1 + tried.index(result.broken[0])
        companies += result.companies
    return ("order" if found.order is not None and found.order.status == "variant" else ""), companies


def random_inputs_differ(fault: Fault, seed: int, device: torch.device) -> bool:
    """What a usual test sees: normal random rows, the first M of them alone against all of them."""
    case, operator = _case(fault), operators()[fault.operator]
    draw = torch.Generator(device).manual_seed(seed)
    dtype = case.precision.torch_input
    tables = tuple(
        torch.randn(table.shape, generator=draw, device=device).to(dtype)
        for table in operator.rows(case.shape, UNIVERSE, dtype, seed, device)
    )
    weights = tuple(
        torch.randn(weight.shape, generator=draw, device=device).to(dtype)
        for weight in operator.shared_inputs(case.shape, UNIVERSE, dtype, seed, device)
    )
    kernel = fault.make()

    def first(m: int) -> torch.Tensor:
        rows = tuple(table[:m].clone() for table in tables)
        result = kernel(*operator.arguments(rows, tuple(weight.clone() for weight in weights)))
        return operator.split_result(result)[0].clone()

    everything = first(UNIVERSE)
    return any(not torch.equal(first(m), everything[:m]) for m in sweep(UNIVERSE))


def in_words(scores: Sequence[Score]) -> Iterator[str]:
    """The score, one fault a line, over all seeds."""
    names = list(dict.fromkeys(one.fault for one in scores))
    seeds = len({one.seed for one in scores})
    missed = [one for one in scores if one.verdict not in FLAGGED]
    alarms = [one for one in scores if not one.right and one.verdict in FLAGGED]
    yield (
        f"{len(names)} faults and as many controls, {seeds} seed{'s' if seeds > 1 else ''}: "
        f"{len(missed)} missed, {len(alarms)} false alarm{'' if len(alarms) == 1 else 's'}"
    )
    width = max(len(name) for name in names)
    for name in names:
        yield _line([one for one in scores if one.fault == name], width)
    for one in (*missed, *alarms):
        yield f"  seed {one.seed}: {one.fault} is {one.verdict}, its control {one.control}"


def _line(scores: Sequence[Score], width: int) -> str:
    first, count = scores[0], len(scores)
    where = ", ".join(dict.fromkeys(one.flagged_by or "nothing" for one in scores))
    most = max(one.companies for one in scores)
    order = "order differs" if all(one.by_order for one in scores) else ""
    random = f"random inputs: {sum(one.by_random for one in scores)}/{count}"
    told = f"{first.fault:<{width}}  {first.verdict:<8} by {where}, after {most} companies; {random}"
    return f"{told}; {order}" if order else told
