"""The detector's own score: every fault must be flagged, and no control."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import torch

from kernels_bench.arms import Kernel, WrongResult
from kernels_bench.faults.base import Fault
from kernels_bench.order.batch_sweep import Task
from kernels_bench.order.case_order import order_of
from kernels_bench.records.cases import Case, Precision
from kernels_bench.records.results import RelationResult, Verification
from kernels_bench.relations import Relation, Setting, make_batch, relations
from kernels_bench.relations.base import no_draw, nothing_more, sweep
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.subject.launched import KernelFault
from kernels_bench.verification.verifier import Verifier
from profiles.run_files.record import Record

FLAGGED = ("variant", "wrong")
_MOST_ROWS = (1 << 17) + 64
_UNHURRIED_S = 1e6
"""Seconds for further comparisons: that a fault is found must not depend on how busy a machine is."""


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


def score(
    fault: Fault, seed: int, device: torch.device, control_s: float = _UNHURRIED_S, *, order_of_flagged: bool = True
) -> Score:
    """Run the detector over a fault and its control.

    Args:
        fault: they.
        seed: of all data.
        device: where they run.
        control_s: seconds for further comparisons of the control, for which none of them is the one that counts.
        order_of_flagged: read the order of addition of a fault that a relation shows already, too.
    """
    found = _examined(fault, fault.make(), seed, device, to_first=True, order_of_flagged=order_of_flagged)
    control = replace(fault, name="control", cause="", make=fault.control, kind="variant", subtle=False)
    flagged_by, companies = _first_sign(fault, found, device)
    return Score(
        fault=fault.name,
        cause=fault.cause,
        seed=seed,
        verdict=found.verdict,
        flagged_by=flagged_by,
        companies=companies,
        by_order=found.order is not None and found.order.status == "variant",
        by_random=random_inputs_differ(fault, seed, device),
        control=_verdict(control, seed, device, control_s),
    )


@cache
def _verdict(control: Fault, seed: int, device: torch.device, more_s: float) -> str:
    """Of what many faults are planted in: it is examined once in a process."""
    return _examined(control, control.make(), seed, device, more_s=more_s).verdict


def _case(fault: Fault) -> Case:
    precision = Precision.parse(fault.precision)
    return Case(arm=fault.name, operator=fault.computed.name, shape=fault.shape, precision=precision)


def _setting(fault: Fault, device: torch.device) -> Setting:
    shape = fault.shape
    return Setting(
        fault.universe,
        sweep(fault.universe),
        longest=shape.tokens or 0,
        page=shape.page or 0,
        most=_MOST_ROWS,
        window=shape.window or 0,
        many_pages=bool(shape.page),
        strides=device.type == "cpu",
    )


def _relations(fault: Fault) -> list[Relation]:
    """All relations; further comparisons are made of those that the fault names."""
    every = relations().values()
    return [one if one.name in fault.further else replace(one, more=nothing_more, drawn=no_draw) for one in every]


def _examined(
    fault: Fault,
    kernel: Kernel,
    seed: int,
    device: torch.device,
    *,
    to_first: bool = False,
    more_s: float = _UNHURRIED_S,
    order_of_flagged: bool = True,
) -> Verification:
    """Everything that a run does with a case, but its speed; what follows the first sign of a fault is no news."""
    case, operator, setting = _case(fault), fault.computed, _setting(fault, device)
    subject = KernelUnderTest(case, operator, kernel, seed=seed, universe=fault.universe, device=device)
    try:
        found = Verifier(subject, seed, claims=tuple(relations())).verify(
            _relations(fault), setting, setting.sizes, more_s, to_first=to_first
        )
    except KernelFault as reason:
        return Verification(case=case, status="measured", wrong=str(reason), universe=fault.universe)
    flagged = any(result.status == "broken" for result in found.relations)
    if found.wrong or (flagged and not order_of_flagged) or not operator.probe_sum_count(case.shape, 1):
        return found
    order, _ = order_of(case, operator, kernel, Task(setting.sizes, seed, 60.0), device)
    return found.model_copy(update={"order": order})


def _first_sign(fault: Fault, found: Verification, device: torch.device) -> tuple[str, int]:
    """What showed the fault, and after how many companies."""
    if found.wrong:
        return "reference", 0
    broken = [result.relation for result in found.relations if result.status == "broken"]
    by = broken[0] if broken else "order" if found.order is not None and found.order.status == "variant" else ""
    chosen = {relation.name: relation for relation in _relations(fault)}
    companies = 0
    for result in found.relations:
        place = _first_difference(result, chosen[result.relation], _setting(fault, device))
        if place is not None:
            return by, companies + 1 + place
        companies += result.companies
    return by, companies


def _first_difference(result: RelationResult, relation: Relation, setting: Setting) -> int | None:
    """Which of its comparisons differed first; None if none did, and what it is blamed for showed in another's."""
    sign = result.counterexample
    if sign is None:
        return None
    tried = enumerate((*relation.comparisons(setting), *relation.more(setting)))
    seen = (sign.reference.spec, sign.company.spec, sign.company.launch, sign.before)
    return next((place for place, one in tried if (one.reference, one.company, one.launch, one.before) == seen), None)


def random_inputs_differ(fault: Fault, seed: int, device: torch.device) -> bool:
    """What a usual test sees: normal random rows, the first M of them alone against all of them."""
    case, operator, universe = _case(fault), fault.computed, fault.universe
    draw = torch.Generator(device).manual_seed(seed)
    dtype = case.precision.torch_input

    def random(tensor: torch.Tensor) -> torch.Tensor:
        usual = torch.is_floating_point(tensor)
        return torch.randn(tensor.shape, generator=draw, device=device).to(tensor.dtype) if usual else tensor

    tables = tuple(map(random, operator.rows(case.shape, universe, dtype, seed, device)))
    weights = tuple(map(random, operator.shared_inputs(case.shape, universe, dtype, seed, device)))
    kernel = fault.make()

    def first(m: int) -> torch.Tensor:
        rows = operator.gather(make_batch(f"first:{m}", universe), universe, case.shape, tables, weights)
        result = kernel(*operator.arguments(rows, tuple(weight.clone() for weight in weights)))
        return operator.split_result(result)[0].clone()

    try:
        everything = first(universe)
        return any(not torch.equal(one, everything[: len(one)]) for one in map(first, sweep(universe)))
    except WrongResult:  # which the kernel says whoever calls it
        return True


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
    told = f"{first.fault:<{width}}  {first.verdict:<8} by {where}, after {most} batches; {random}"
    return f"{told}; {order}" if order else told
