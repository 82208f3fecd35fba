"""From what the user asked for to the list of what is to be done.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NoReturn, TypeVar

from pydantic import Field

from kernels_bench.console.errors import UsageError
from kernels_bench.console.text import suggestion
from kernels_bench.operators import operators as all_operators
from kernels_bench.operators.attention import Attention
from kernels_bench.operators.definitions import refuse_unfit
from kernels_bench.records.cases import (
    MAY_BE_ZERO,
    PRECISIONS,
    Case,
    Load,
    Precision,
    Shape,
    label_of,
    process_of,
)
from kernels_bench.records.catalogue import ArmInfo, Catalogue, OperatorInfo, RelationInfo
from kernels_bench.records.definition import Definition, DefinitionError
from kernels_bench.records.selection import Selection
from kernels_bench.relations.base import are_sequences, sweep
from kernels_bench.relations.base import relations as all_relations
from profiles.run_files.record import Record

# M at which the results of arms are compared with each other.
DIGESTED = (1, 16, 256, 2048)
CPU_SHAPES = ("small",)
# fp16 products on a CPU without native fp16 take seconds to be generated for every new M, and torch has no fp32
# results of 16-bit inputs there to compare with.
CPU_PRECISIONS = ("bf16", "fp32")
# Beside the first shape: 8-aligned shapes alone would hide most of what varies.
TELLING = ("unaligned/0", "unaligned/entry", "unaligned/heads", "small/unaligned")
# Sequences whose KV caches together are larger are not timed: every arm holds its own.
MOST_CACHE = 2 << 30
# Further processes, over all arms whose kernels are compiled while they are verified and that have so many cases.
HELPERS, WORTH_HELP = 6, 10


T = TypeVar("T")


class Sweep(Record):
    """Every M at which something is done with one operator's cases.

    Attributes:
        universe: number of rows.
        sizes: those of the relations.
        asked: those of them that the user named.
        lengths: tokens of sequences that the user named, where rows are sequences.
        timed: the batches that are timed; none where speed is not measured.
        digested: those at which the arms' bits are compared with each other.
    """

    universe: int
    sizes: tuple[int, ...]
    asked: tuple[int, ...]
    lengths: tuple[int, ...]
    timed: tuple[Load, ...]
    digested: tuple[int, ...]


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
        return [load for load in chosen if _cache_bytes(case, load) <= MOST_CACHE]

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


def _untimed(operators: Iterable[OperatorInfo], cases: Iterable[Case], selection: Selection) -> Iterator[str]:
    """Cases whose speed would take more time than it tells, unless they were asked for.

    Of sequences, which have so many loads, other shapes and dtypes than tell most; in a short run all shapes of an
    operator but the first. All of them where nothing is to be timed.
    """
    if selection.only == "verify":
        yield from (case.without_arm for case in cases)
        return
    chosen = {operator.name: operator for operator in operators}
    first: dict[str, Shape] = {}
    for case in cases:
        operator, shape = chosen[case.operator], case.shape
        sequences, usual = any(operator.lengths.values()), selection.shapes is None
        other_shape = usual and sequences and not {shape.label, _set_name(shape)} & {*operator.timed_shapes}
        other_dtype = sequences and selection.dtype is None and str(case.precision) != operator.precisions[0]
        later = usual and selection.quick and first.setdefault(operator.name, shape) != shape
        if other_shape or other_dtype or later:
            yield case.without_arm


def _seldom_timed(cases: Iterable[Case], selection: Selection, device: str) -> Iterator[str]:
    """Invented shapes on a GPU, unless they or numbers of rows were asked for: how fast they are tells little."""
    if device != "cpu" and selection.shapes is None and selection.batch is None:
        yield from (case.without_arm for case in cases if case.shape.invented and not case.shape.tokens)


def _cache_bytes(case: Case, load: Load) -> int:
    """Keys and values of a load's sequences."""
    operator = all_operators().get(case.operator)
    if load.length is None or not isinstance(operator, Attention):
        return 0
    return operator.cache_bytes(case.shape, case.precision, load.m * load.length)


def make_workload(catalogue: Catalogue, selection: Selection) -> Workload:
    """Choose arms, shapes, precisions, sizes and relations.

    Raises:
        UsageError: an unknown name or a value that makes no sense.
    """
    device = catalogue.device.scale
    operators = _operators(catalogue.operators, selection, device)
    chosen, searched = _arms(catalogue.arms, operators, selection)
    usable = tuple(arm for arm in chosen if not arm.unavailable)
    if not usable:
        raise UsageError("; ".join(f"{arm.name} cannot run here: {arm.unavailable}" for arm in chosen))
    relations = _pick("relation", selection.relation, {r.name: r for r in catalogue.relations})
    _check_meaning(relations, operators, selection)
    if selection.shapes is not None:
        _check_shape_names(catalogue.operators, operators, selection.shapes)
    cases = tuple(_cases(operators, usable, selection, device))
    with_cases = {case.arm for case in cases}
    _refuse_other_dtypes([arm for arm in usable if arm.name not in {*with_cases, *searched}], selection)
    return Workload(
        arms=tuple(arm for arm in usable if arm.name in with_cases),
        left_out=tuple(arm for arm in chosen if arm.unavailable),
        cases=cases,
        relations=tuple(relation.name for relation in relations),
        quick=selection.quick,
        verifies=selection.only != "time",
        untimed=frozenset(_untimed(operators, cases, selection)),
        seldom_timed=frozenset(_seldom_timed(cases, selection, device)),
        sweeps={operator.name: _sweep(operator, selection, device) for operator in operators},
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
    relations = _pick("relation", selection.relation, {relation.name: relation for relation in catalogue.relations})
    named = None if selection.arm is None else [process_of(word) for word in selection.arm]
    arms = _pick("arm", named, {arm.name: arm for arm in catalogue.arms})
    operators = catalogue.operators
    if selection.op is not None:
        operators = tuple(_operators(operators, selection, catalogue.device.scale))
        arms = [arm for arm in arms if any(_may_offer(arm, operator) for operator in operators)]
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
    return list({o.name: o for found in _pick("op", selection.op, by_name) for o in found}.values())


def _arms(
    known: Sequence[ArmInfo], operators: Sequence[OperatorInfo], selection: Selection
) -> tuple[list[ArmInfo], set[str]]:
    """The arms that were chosen, each before its candidates, and the names of the candidates that are searched."""
    arms = {arm.name: arm for arm in known}
    typed = selection.arm if selection.arm is not None else tuple(arms)
    named = _pick("arm", [word for word in typed if not _is_every(word)], _with_candidates(arms, typed))
    together = [process_of(word) for word in typed if _is_every(word)]
    if selection.budget_s:
        together += [arm.name for arm in named if not label_of(arm.name)]
    found = {arm.name: arm for arm in (_concerned(named, operators, selection) if named else ())}
    several = {
        one.name: one
        for arm in _pick("arm", together, arms)
        for one in map(arm.candidate, [candidate.label for candidate in arm.candidates])
        if one is not None and not arm.unavailable and any(_may_offer(one, operator) for operator in operators)
    }
    if not found and not several:
        raise UsageError(f"--arm {','.join(typed)}: has no candidates for the chosen operators")
    place = {name: number for number, name in enumerate(arms)}
    chosen = sorted((several | found).values(), key=lambda arm: (place[arm.process], bool(label_of(arm.name))))
    searched = several.keys() - found.keys() if selection.budget_s else ()
    return chosen, {*searched}


def _is_every(word: str) -> bool:
    """Whether all candidates of an arm are named, as in ``samebits[*]``."""
    return label_of(word) == "*"


def _with_candidates(arms: Mapping[str, ArmInfo], typed: Sequence[str]) -> dict[str, ArmInfo]:
    """Arms by name, and the candidates of those of which some were named."""
    found = dict(arms)
    for name in dict.fromkeys(process_of(word) for word in typed if label_of(word) and process_of(word) in arms):
        several = map(arms[name].candidate, [candidate.label for candidate in arms[name].candidates])
        found |= {one.name: one for one in several if one is not None}
    return found


def _refuse_other_dtypes(without_cases: Sequence[ArmInfo], selection: Selection) -> None:
    """A candidate that was named is for other dtypes than all that were chosen."""
    for arm in without_cases:
        if arm.dtypes and selection.arm is not None and arm.name in selection.arm:
            raise UsageError(f"--arm {arm.name}: it is for inputs of {' and '.join(arm.dtypes)}; name one by --dtype")


def _concerned(arms: Sequence[ArmInfo], operators: Sequence[OperatorInfo], selection: Selection) -> list[ArmInfo]:
    """The arms that have some of the operators; to ask by name for one that has none, or to bring it, is an error."""
    found = [arm for arm in arms if any(_may_offer(arm, operator) for operator in operators)]
    for arm in arms:
        if (selection.arm is not None or arm.plugin) and arm not in found:
            others = all(operator.own for operator in operators) and arm.plugin is None
            offers = "ours alone" if others else ", ".join(arm.offers or ()) or "none at all"
            option = f"--arm {arm.name}" if selection.arm is not None else f"--plugin {arm.plugin}"
            raise UsageError(f"{option}: has none of the chosen operators; it has {offers}")
    if not found:
        names, first = " and ".join(operator.name for operator in operators), operators[0].name
        raise UsageError(f"no arm has {names}: give it a kernel, such as --plugin FILE:{first}=FUNCTION")
    return found


def _may_offer(arm: ArmInfo, operator: OperatorInfo) -> bool:
    """Whether an arm has an operator, or may have it: of a user's own operators our arms know nothing."""
    if arm.offers is None:
        return not operator.own or arm.plugin is not None
    return operator.name in arm.offers


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


def _sweep(operator: OperatorInfo, selection: Selection, device: str) -> Sweep:
    asked = _positive(selection.batch or ())
    universe = max((operator.universe[device], *asked))
    return Sweep(
        universe=universe,
        sizes=tuple(sorted({*sweep(universe), *asked})),
        asked=asked,
        lengths=_lengths(selection.length or ()) if are_sequences(operator.rows_are) else (),
        timed=_loads(operator, selection, device),
        digested=tuple(sorted({m for m in (*DIGESTED, *asked, universe) if m <= universe})),
    )


def _loads(operator: OperatorInfo, selection: Selection, device: str) -> tuple[Load, ...]:
    if not operator.timed[device]:
        return ()
    rows = _positive(selection.batch) if selection.batch else operator.timed[device]
    lengths: tuple[int | None, ...] = operator.lengths[device] or (None,)
    if operator.lengths[device] and selection.length:
        lengths = _lengths(selection.length)
    elif selection.quick and operator.lengths[device]:
        lengths = lengths[len(lengths) // 2 :][:1]
        rows = rows if selection.batch else tuple(dict.fromkeys((rows[0], rows[-1])))
    return tuple(Load(m=m, length=length) for m in rows for length in lengths)


def _lengths(wanted: Sequence[int]) -> tuple[int, ...]:
    wrong = [n for n in wanted if not 1 <= n <= 1 << 20]
    if wrong:
        raise UsageError(f"--length {wrong[0]}: a sequence has between 1 and {1 << 20} tokens")
    return tuple(sorted(set(wanted)))


def _positive(batch: Sequence[int]) -> tuple[int, ...]:
    wrong = [m for m in batch if not 1 <= m <= 1 << 20]
    if wrong:
        raise UsageError(f"--batch {wrong[0]}: a batch has between 1 and {1 << 20} rows")
    return tuple(sorted(set(batch)))


def _pick(option: str, wanted: Sequence[str] | None, known: dict[str, T]) -> list[T]:
    if wanted is None:
        return list(known.values())
    for name in wanted:
        if name not in known:
            raise UsageError(f"--{option} {name}: unknown{suggestion(name, known)}")
    return [known[name] for name in dict.fromkeys(wanted)]


def _cases(
    operators: Sequence[OperatorInfo], arms: Sequence[ArmInfo], selection: Selection, device: str
) -> Iterable[Case]:
    found, asked = False, selection.shapes is not None
    patient = selection.arm is not None or not selection.quick or device == "cpu"
    for operator in operators:
        first = True
        shapes = _shapes(operator, selection, device)
        for position, shape in enumerate(shapes):
            for precision in _precisions(operator, shape, position, selection, device):
                for arm in (arm for arm in arms if _may_offer(arm, operator)):
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


def _shapes(operator: OperatorInfo, selection: Selection, device: str) -> list[Shape]:
    wanted: Sequence[str] | None = selection.shapes
    small = wanted is None and device == "cpu" and not operator.own
    if wanted is None:
        wanted = CPU_SHAPES if small else _usual_shapes(operator, selection.quick)
    named = [shape for word in wanted for shape in operator.shapes if shape.label == word or _set_name(shape) == word]
    if small and selection.quick:
        named = named[-1:]  # which tells most: the unaligned one, one head for all, the most ranks
    sized = [shape for sizes in _sizes_typed(wanted) if (shape := _shape_of(operator, sizes)) is not None]
    return list({shape.token: shape for shape in [*named, *sized]}.values())


def _usual_shapes(operator: OperatorInfo, quick: bool) -> Sequence[str]:
    """Names of a run's shapes; of an operator that short runs leave out, and that was asked for by name, the first."""
    return (operator.quick or operator.usual[:1]) if quick else operator.usual


def _set_name(shape: Shape) -> str:
    return shape.label.partition("/")[0]


def _sizes_typed(words: Sequence[str]) -> list[tuple[int, ...]]:
    """Sizes among the words: ``NxK`` (``BxNxK``) stands alone, bare numbers pair up as N,K."""
    bare = [int(word) for word in words if word.isdecimal()]
    if len(bare) % 2 and len(bare) > 1:
        raise UsageError(f"--shapes {','.join(words)}: bare numbers are read in pairs N,K, and one is left over")
    joined = [tuple(int(size) for size in word.split("x")) for word in words if _is_sizes(word)]
    pairs = [tuple(bare[i : i + 2]) for i in range(0, len(bare), 2)]
    for sizes in [*pairs, *joined]:
        if not all(size <= 1 << 20 for size in sizes):
            _refuse_sizes("x".join(map(str, sizes)))
    return [*pairs, *joined]


def _refuse_sizes(label: str) -> NoReturn:
    raise UsageError(f"--shapes {label}: sizes must be between 1 and {1 << 20}")


def _is_sizes(word: str) -> bool:
    return "x" in word and all(part.isdecimal() for part in word.split("x"))


def _shape_of(operator: OperatorInfo, sizes: tuple[int, ...]) -> Shape | None:
    """A shape of the typed sizes; a row operator takes K of N,K; None where they do not fit."""
    dims = operator.dims
    if dims == ("k",) and len(sizes) == 2:
        sizes = sizes[1:]
    if len(sizes) != len(dims):
        return None
    named, label = dict(zip(dims, sizes, strict=True)), "x".join(map(str, sizes))
    if not all(size or name in MAY_BE_ZERO for name, size in named.items()):
        _refuse_sizes(label)
    if operator.definition is not None:
        return _own_shape(operator.definition, Shape.of(label, named))
    if named.get("heads", 1) % named.get("kv_heads", 1):
        raise UsageError(f"--shapes {label}: heads must be a multiple of those for keys and values")
    if named.get("sinks", 0) > 1:
        raise UsageError(f"--shapes {label}: its last size is 1 for sinks, or 0 for none")
    return Shape.model_validate({"label": label, **named})


def _own_shape(definition: Definition, shape: Shape) -> Shape:
    try:
        refuse_unfit(definition, shape)
    except DefinitionError as error:
        raise UsageError(f"--shapes {shape.token}: operator {definition.name!r}: {error}") from None
    return shape


def _check_shape_names(operators: Sequence[OperatorInfo], chosen: Sequence[OperatorInfo], words: Sequence[str]) -> None:
    """Refuse what no operator has a shape of; what the chosen ones have is suggested."""
    known = _shape_names(operators)
    for word in words:
        if word not in known and not word.isdecimal() and not _is_sizes(word):
            sets = dict.fromkeys(_set_name(shape) for operator in chosen for shape in operator.shapes)
            raise UsageError(f"--shapes {word}: unknown{suggestion(word, _shape_names(chosen), listed=sets)}")


def _shape_names(operators: Sequence[OperatorInfo]) -> dict[str, None]:
    """Of sets, and of single shapes."""
    shapes = [shape for operator in operators for shape in operator.shapes]
    return dict.fromkeys([*(_set_name(shape) for shape in shapes), *(shape.label for shape in shapes)])
