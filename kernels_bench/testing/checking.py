"""Examine one kernel at hand, in this process: what a run does with a case, without its speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from kernels_bench.arms import Arm, Unsupported
from kernels_bench.commands.workload import Workload, make_workload
from kernels_bench.console.errors import UsageError
from kernels_bench.console.text import first_line, suggestion
from kernels_bench.device.detect import find_device
from kernels_bench.operators import Operator, operators
from kernels_bench.operators.defined import DefinedOperator
from kernels_bench.records.cases import CLAIMED_APART, Case, Claims, Device
from kernels_bench.records.catalogue import Catalogue
from kernels_bench.records.results import Verification
from kernels_bench.records.selection import Selection
from kernels_bench.relations import relations as all_relations
from kernels_bench.testing.naming import name_of, plugin_of
from kernels_bench.testing.report import Report
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest, bind
from kernels_bench.verification.subject.launched import KernelFault
from kernels_bench.verification.verifier import Verifier
from kernels_bench.workers.arm.fewer_rows import verified_among_its_rows
from kernels_bench.workers.arm.setting import setting_of
from kernels_bench.workers.catalogue import catalogue_with
from kernels_bench.workers.messages import Verify

ShapeLike = str | int | Sequence[int] | Mapping[str, int]

NOT_CLAIMED = ("layout", *CLAIMED_APART)
"""What callers of a kernel may have to promise: they are told, and by default no failure."""


def check(  # noqa: PLR0913 - one argument for each thing that can be chosen
    kernel: Callable[..., Any],
    operator: str | Operator,
    *,
    shapes: ShapeLike | Sequence[ShapeLike] | None = None,
    dtypes: str | Sequence[str] | None = None,
    batch: int | Sequence[int] = (),
    relations: str | Sequence[str] | None = None,
    claims: bool | Sequence[str] | None = None,
    quick: bool = False,
    seed: int = 0,
    device: str | None = None,
    budget_s: float = 10.0,
) -> Report:
    """Examine a kernel in this process: does what it computes for a row depend on the batch the row is in?

    Args:
        kernel: any callable that takes the operator's arguments: a function, a closure, a bound method, a compiled
            module. It is called without gradients, but where ``surroundings`` are tried, and what it returns is
            overwritten once it was copied.
        operator: the name of one that ``python -m kernels_bench --list`` shows, or one of your own.
        shapes: names such as ``"qwen3-8b/hidden"``, sizes such as ``4096`` or ``(4096, 12288)``, or sizes by name
            such as ``{"d": 1003}``; by default the operator's usual ones, on a CPU small ones.
        dtypes: such as ``"bf16"`` or ``"bf16:fp32"``; by default the operator's.
        batch: numbers of rows to look at beside the usual ones, which reach from 1 to 4096, on a CPU to 256.
        relations: names of those to examine; by default all.
        claims: those that must hold: all (True), none (False) or some; by default all but ``layout`` and
            ``surroundings`` and, of attention over a paged cache, ``concurrency``.
        quick: one shape and one dtype.
        seed: of all data.
        device: ``"cpu"``, ``"cuda"`` or ``"npu"``; by default the first accelerator, if there is one.
        budget_s: seconds that comparisons beyond those of every check may take together; of a fast kernel a check
            takes about this long, and of a slow one as long as those of every check.

    Returns:
        What was found; ``report.held`` says whether every bit was kept and no result was wrong.

    Raises:
        UsageError: an unknown name, or one that does not fit; the message says which.
        DefinitionError: the reference of an operator of your own does not give what was said of it.
    """
    started = time.perf_counter()
    chosen = _operator(operator)
    place = _device(device)
    arm = Arm(name_of(kernel), kernels=lambda: {chosen.name: kernel}, offers=(chosen.name,))
    known = catalogue_with(place, chosen, arm)
    names, dtype_names = _several(relations), _several(dtypes)
    selection = Selection(
        op=(chosen.name,),
        arm=(arm.name,),
        dtype=dtype_names,
        batch=(batch,) if isinstance(batch, int) else tuple(batch) or None,
        relation=names,
        quick=quick,
        seed=seed,
    )
    workloads = list(_workloads(known, selection, chosen, shapes))
    promised = _claims(claims, names, chosen)
    examiner = _Examiner(kernel, chosen, torch.device(place.type), plugin_of(kernel, chosen), promised)
    cases = {case.key: (case, workload) for workload in workloads for case in workload.cases}
    found = tuple(examiner.verified(case, workload, budget_s / len(cases)) for case, workload in cases.values())
    return Report(
        kernel=arm.name,
        operator=chosen.name,
        device=place,
        judged=chosen.has_reference,
        verifications=found,
        seconds=time.perf_counter() - started,
    )


def assert_batch_invariant(kernel: Callable[..., Any], operator: str | Operator, **options: Any) -> Report:
    """Raise an `AssertionError` where `check` finds that a kernel does not keep its bits, or gives a wrong result.

    Its text is the counterexample and, where a file has the kernel by a name, the command that shows it alone.

    Args:
        kernel: as `check` takes it.
        operator: likewise.
        options: likewise.

    Returns:
        What `check` found, where everything held.

    Raises:
        AssertionError: a bit changed, a result is wrong, or a case could not be examined.
        UsageError: see `check`.
        DefinitionError: see `check`.
    """
    __tracebackhide__ = True
    report = check(kernel, operator, **options)
    if not report.held:
        raise AssertionError(report.failure())
    return report


@dataclass(frozen=True)
class _Examiner:
    """Verifies one kernel's cases."""

    kernel: Callable[..., Any]
    operator: Operator
    device: torch.device
    plugin: str | None
    claims: Claims

    def verified(self, case: Case, workload: Workload, more_s: float) -> Verification:
        """What a run's worker would find of a case."""
        sweep = workload.sweeps[case.operator]
        request = Verify(
            case=case,
            seed=workload.seed,
            universe=sweep.universe,
            relations=workload.relations,
            sizes=sweep.sizes,
            digest_sizes=(),
            asked=sweep.asked,
        )
        with torch.no_grad():
            try:
                found = verified_among_its_rows(request, self._subject, partial(self._examined, more_s))
            except KernelFault as fault:
                found = Verification(case=case, status="measured", wrong=str(fault), universe=sweep.universe)
            except Unsupported as reason:
                found = Verification(case=case, status="unsupported", reason=first_line(reason))
        return found if self.plugin is not None else _without_commands(found)

    def _subject(self, request: Verify) -> KernelUnderTest:
        kernel = bind(request.case, {request.case.operator: self.kernel})
        return KernelUnderTest(
            request.case, self.operator, kernel, seed=request.seed, universe=request.universe, device=self.device
        )

    def _examined(self, more_s: float, subject: KernelUnderTest, request: Verify) -> Verification:
        verifier = Verifier(subject, request.seed, self.plugin, self.claims)
        chosen = [all_relations()[name] for name in request.relations]
        return verifier.verify(chosen, setting_of(subject, request), (), more_s)


def _without_commands(found: Verification) -> Verification:
    """The same of a kernel that no command line can name."""
    results = [
        result.model_copy(update={"counterexample": result.counterexample.model_copy(update={"command": ""})})
        if result.counterexample is not None
        else result
        for result in found.relations
    ]
    return found.model_copy(update={"relations": tuple(results)})


def _operator(given: str | Operator) -> Operator:
    if isinstance(given, DefinedOperator) and given.own:
        if given.name in operators():
            raise UsageError(f"there is an operator {given.name!r} already; choose another name")
        given.refuse_wrong_reference()
    if isinstance(given, Operator):
        return given
    if given not in operators():
        raise UsageError(f"operator {given!r}: unknown{suggestion(str(given), operators())}")
    return operators()[given]


def _device(wanted: str | None) -> Device:
    found = find_device()
    if wanted is None or wanted == found.type:
        return found
    if wanted == "cpu":
        return Device(type="cpu", name="CPU")
    absent = {"cuda": "no GPU can be used here", "npu": "no NPU can be used here"}
    raise UsageError(f"device {wanted!r}: {absent.get(wanted, 'expected cpu, cuda or npu')}")


def _several(given: str | Sequence[str] | None) -> tuple[str, ...] | None:
    return None if given is None else (given,) if isinstance(given, str) else tuple(given)


def _claims(given: bool | Sequence[str] | None, asked: Sequence[str] | None, operator: Operator) -> Claims:
    """What must hold: what the caller says, else what was asked for by name, else all but what callers answer for.

    These are `NOT_CLAIMED`, and what is theirs for rows of the operator's kind alone.
    """
    if isinstance(given, bool):
        return given and tuple(all_relations())
    if given is None:
        given = asked or [
            name
            for name, relation in all_relations().items()
            if name not in NOT_CLAIMED and (relation.optional or not relation.is_optional(operator.rows_are))
        ]
    for name in given:
        if name not in all_relations():
            raise UsageError(f"claims names {name!r}, which is no relation{suggestion(name, all_relations())}")
    return tuple(given)


def _workloads(
    known: Catalogue, selection: Selection, operator: Operator, shapes: ShapeLike | Sequence[ShapeLike] | None
) -> Iterator[Workload]:
    """One for each shape that was asked for: bare numbers of several would be read in pairs."""
    if shapes is None:
        yield make_workload(known, selection)
        return
    for word in _words(operator, shapes):
        yield make_workload(known, selection.model_copy(update={"shapes": (word,)}))


def _words(operator: Operator, given: ShapeLike | Sequence[ShapeLike]) -> Iterator[str]:
    """Shapes as the command line takes them."""
    if isinstance(given, str):
        yield given
    elif isinstance(given, int):
        yield str(given)
    elif isinstance(given, Mapping):
        if set(given) != set(operator.dims):
            raise UsageError(f"shapes: {dict(given)} has other sizes than {operator.name}: {', '.join(operator.dims)}")
        yield "x".join(str(given[dim]) for dim in operator.dims)
    elif isinstance(given, tuple) and all(isinstance(size, int) for size in given):
        yield "x".join(map(str, given))
    else:
        for one in given:
            yield from _words(operator, one)
