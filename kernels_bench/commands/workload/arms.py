"""Which arms and candidates have a part in a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kernels_bench.commands.workload.pick import pick
from kernels_bench.console.errors import UsageError
from kernels_bench.records.cases import label_of, process_of
from kernels_bench.records.catalogue import ArmInfo, OperatorInfo
from kernels_bench.records.selection import Selection


def chosen_arms(
    known: Sequence[ArmInfo], operators: Sequence[OperatorInfo], selection: Selection
) -> tuple[list[ArmInfo], set[str]]:
    """The arms that were chosen, each before its candidates, and the names of the candidates that are searched.

    Raises:
        UsageError: an unknown name, or none has any of the operators.
    """
    arms = {arm.name: arm for arm in known}
    typed = selection.arm if selection.arm is not None else tuple(arms)
    named = pick("arm", [word for word in typed if not _is_every(word)], _with_candidates(arms, typed))
    together = [process_of(word) for word in typed if _is_every(word)]
    if selection.budget_s:
        together += [arm.name for arm in named if not label_of(arm.name)]
    found = {arm.name: arm for arm in (_concerned(named, operators, selection) if named else ())}
    several = {
        one.name: one
        for arm in pick("arm", together, arms)
        for one in map(arm.candidate, [candidate.label for candidate in arm.candidates])
        if one is not None and not arm.unavailable and any(may_offer(one, operator) for operator in operators)
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


def _concerned(arms: Sequence[ArmInfo], operators: Sequence[OperatorInfo], selection: Selection) -> list[ArmInfo]:
    """The arms that have some of the operators; to ask by name for one that has none, or to bring it, is an error."""
    found = [arm for arm in arms if any(may_offer(arm, operator) for operator in operators)]
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


def refuse_other_dtypes(without_cases: Sequence[ArmInfo], selection: Selection) -> None:
    """See that no candidate was named that is for other dtypes than all that were chosen.

    Args:
        without_cases: arms and candidates that were chosen and have nothing to do.
        selection: what was asked for.

    Raises:
        UsageError: one was.
    """
    for arm in without_cases:
        if arm.dtypes and selection.arm is not None and arm.name in selection.arm:
            raise UsageError(f"--arm {arm.name}: it is for inputs of {' and '.join(arm.dtypes)}; name one by --dtype")


def may_offer(arm: ArmInfo, operator: OperatorInfo) -> bool:
    """Whether an arm has an operator, or may have it: of a user's own operators our arms know nothing."""
    if arm.offers is None:
        return not operator.own or arm.plugin is not None
    return operator.name in arm.offers
