"""From what the user asked for to the list of what is to be done.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import Field

from kernels_bench.commands.workload.arms import chosen_arms, may_offer, refuse_other_dtypes
from kernels_bench.commands.workload.pick import pick
from kernels_bench.commands.workload.shapes import check_shape_names, shapes_of
from kernels_bench.commands.workload.sweeps import Sweep, has_room, seldom_timed, sweep_of, untimed
from kernels_bench.console.errors import UsageError
from kernels_bench.console.text import suggestion
from kernels_bench.records.cases import PRECISIONS, Case, Load, Precision, Shape, process_of
from kernels_bench.records.catalogue import ArmInfo, Catalogue, OperatorInfo, RelationInfo
from kernels_bench.records.definition import Definition
from kernels_bench.records.selection import Selection
from kernels_bench.relations.base import are_sequences
from kernels_bench.relations.base import relations as all_relations
from profiles.run_files.record import Record

# fp16 products on a CPU without native fp16 take seconds to be generated for every new M, and torch has no fp32
# results of 16-bit inputs there to compare with.
CPU_PRECISIONS = ("bf16", "fp32")
# Beside the first shape: 8-aligned shapes alone would hide most of what varies.
TELLING = ("unaligned/0", "unaligned/entry", "unaligned/heads", "small/unaligned")
# Further processes, over all arms whose kernels are compiled while they are verified and that have so many cases.
HELPERS, WORTH_HELP = 6, 10


class Workload(Record):
    """Everything that a run does.

    Attributes:
        arms: those that can run here and were not left out.
        left_out: arms that were asked for, or would be run, and cannot be.
        cases: to be verified, and then timed at every load that their operator is timed at and they have room for.
        relations: names, in order.
        quick: a short run.
        verifies: whether cases are verified.
        untimed: cases, arms apart, that are verified only.
        seldom_timed: likewise those that are timed at every other load.
        sweeps: for each operator, every M.
        seed: of all data.
        own: operators that users defined.
        searched: candidates of which the fastest alone are verified and timed.
        orders: what each of these says of its order of addition.
    """

    arms: tuple[ArmInfo, ...]
    left_out: tuple[ArmInfo, ...]
    cases: tuple[Case, ...]
    relations: tuple[str, ...]
    quick: bool
    verifies: bool
    untimed: frozenset[str]
    seldom_timed: frozenset[str]
    sweeps: dict[str, Sweep]
    seed: int
    own: tuple[Definition, ...] = ()
    searched: frozenset[str] = frozenset()
    orders: dict[str, str] = Field(default_factory=dict)

    @property
    def planned(self) -> int:
        """How many verifications and timings there are to do."""
        return sum(self.verifies + len(self.loads(case)) for case in self.cases)

    def loads(self, case: Case) -> list[Load]:
        """What a case is timed at."""
        if case.without_arm in self.untimed:
            return []
        loads = self.sweeps[case.operator].timed
        chosen = loads[1::2] if case.without_arm in self.seldom_timed else loads
        return [load for load in chosen if has_room(case, load)]

    @property
    def extra_workers(self) -> dict[str, int]:
        """Further processes for arms that compile their kernels and have many cases."""
        counts = Counter(case.process for case in self.cases)
        compiling = dict.fromkeys(arm.process for arm in self.arms if arm.compiles)
        helped = [name for name in compiling if counts[name] >= WORTH_HELP]
        return dict.fromkeys(helped, max(1, HELPERS // max(1, len(helped))))

    def timing_groups(self) -> list[tuple[tuple[Case, ...], Load]]:
        """What is timed turn by turn: the cases of all arms at one operator, shape, precision and load."""
        groups: dict[str, list[Case]] = {}
        for case in self.cases:
            groups.setdefault(case.without_arm, []).append(case)
        return [(tuple(group), load) for group in groups.values() for load in self.loads(group[0])]


def make_workload(catalogue: Catalogue, selection: Selection) -> Workload:
    """Choose arms, shapes, precisions, sizes and relations.

    Raises:
        UsageError: an unknown name or a value that makes no sense.
    """
    device = catalogue.device.scale
    operators = _operators(catalogue.operators, selection, device)
    chosen, searched = chosen_arms(catalogue.arms, operators, selection)
    usable = tuple(arm for arm in chosen if not arm.unavailable)
    if not usable:
        raise UsageError("; ".join(f"{arm.name} cannot run here: {arm.unavailable}" for arm in chosen))
    relations = pick("relation", selection.relation, {r.name: r for r in catalogue.relations})
    _check_meaning(relations, operators, selection)
    if selection.shapes is not None:
        check_shape_names(catalogue.operators, operators, selection.shapes)
    cases = tuple(_cases(operators, usable, selection, device))
    with_cases = {case.arm for case in cases}
    refuse_other_dtypes([arm for arm in usable if arm.name not in {*with_cases, *searched}], selection)
    return Workload(
        arms=tuple(arm for arm in usable if arm.name in with_cases),
        left_out=tuple(arm for arm in chosen if arm.unavailable),
        cases=cases,
        relations=tuple(relation.name for relation in relations),
        quick=selection.quick,
        verifies=selection.only != "time",
        untimed=frozenset(untimed(operators, cases, selection)),
        seldom_timed=frozenset(seldom_timed(cases, selection, device)),
        sweeps={operator.name: sweep_of(operator, selection, device) for operator in operators},
        seed=selection.seed,
        own=tuple(o.definition for o in operators if o.own and o.definition is not None),
        searched=frozenset(searched & with_cases),
        orders={arm.name: arm.order for arm in usable if arm.name in searched & with_cases},
    )


def narrowed(catalogue: Catalogue, selection: Selection) -> Catalogue:
    """What can be chosen beside the operators, arms and relations that were named; all where none was.

    Raises:
        UsageError: an unknown name.
    """
    relations = pick("relation", selection.relation, {relation.name: relation for relation in catalogue.relations})
    named = None if selection.arm is None else [process_of(word) for word in selection.arm]
    arms = pick("arm", named, {arm.name: arm for arm in catalogue.arms})
    operators = catalogue.operators
    if selection.op is not None:
        operators = tuple(_operators(operators, selection, catalogue.device.scale))
        arms = [arm for arm in arms if any(may_offer(arm, operator) for operator in operators)]
        kinds = {operator.rows_are for operator in operators}
        relations = [one for one in relations if any(all_relations()[one.name].applies_to(kind) for kind in kinds)]
    return catalogue.model_copy(update={"operators": operators, "arms": tuple(arms), "relations": tuple(relations)})


def _operators(known: Sequence[OperatorInfo], selection: Selection, device: str) -> list[OperatorInfo]:
    """Operators by their names or their families'; by default all that a short run has time for."""
    by_name = {operator.name: [operator] for operator in known}
    families = dict.fromkeys(operator.family for operator in known)
    short = selection.quick and device != "cpu" and selection.shapes is None
    by_name |= {
        family: [o for o in known if o.family == family and (o.quick or not short)] for family in families
    }  # fmt: skip
    if selection.op is None:
        return [o for o in known if device not in o.by_request and (o.quick or not short)]
    return list({o.name: o for found in pick("op", selection.op, by_name) for o in found}.values())


def _check_meaning(chosen: Sequence[RelationInfo], of_operators: Sequence[OperatorInfo], selection: Selection) -> None:
    """Refuse relations none of which has a meaning for the chosen operators: nothing would be examined."""
    known, kinds = all_relations(), {operator.rows_are for operator in of_operators}
    if selection.relation is None or any(known[one.name].applies_to(kind) for one in chosen for kind in kinds):
        return
    names = ", ".join(operator.name for operator in of_operators)
    meant = [one.name for one in known.values() if any(one.applies_to(kind) for kind in kinds)]
    raise UsageError(
        f"--relation {','.join(selection.relation)}: has no meaning for {names}; these have: {', '.join(meant)}"
    )


def _cases(
    operators: Sequence[OperatorInfo], arms: Sequence[ArmInfo], selection: Selection, device: str
) -> Iterable[Case]:
    """Every case of the chosen operators, at the shapes and precisions that were asked for or are usual."""
    found, asked = False, selection.shapes is not None
    patient = selection.arm is not None or not selection.quick or device == "cpu"
    for operator in operators:
        first = True
        shapes = shapes_of(operator, selection, device)
        for position, shape in enumerate(shapes):
            for precision in _precisions(operator, shape, position, selection, device):
                for arm in (arm for arm in arms if may_offer(arm, operator)):
                    found = True
                    if arm.dtypes and precision.input not in arm.dtypes:
                        continue
                    if operator.name in arm.brief and not (asked or (first and patient)):
                        continue
                    yield Case(arm=arm.name, operator=operator.name, shape=shape, precision=precision)
                first = False
    if not found:
        raise UsageError(f"--shapes {','.join(selection.shapes or ())}: fits none of the chosen operators")


def _precisions(
    operator: OperatorInfo, shape: Shape, position: int, selection: Selection, device: str
) -> list[Precision]:
    """All that were asked for; else the first at every shape, the others at two that tell most, in a suite at one."""
    if selection.dtype is not None:
        unknown = next((name for name in selection.dtype if name not in PRECISIONS), None)
        if unknown is not None:
            raise UsageError(f"--dtype {unknown}: unknown{suggestion(unknown, PRECISIONS)}")
        return [Precision.parse(name) for name in dict.fromkeys(selection.dtype)]
    every = device != "cpu" or operator.own
    usual = [name for name in operator.precisions if every or name in CPU_PRECISIONS] or [*operator.precisions]
    suite = device in operator.by_request and not are_sequences(operator.rows_are)
    telling = position == 0 or (shape.label in TELLING and not suite)
    return [Precision.parse(name) for name in (usual if telling and not selection.quick else usual[:1])]
