"""What `locate` found, in lines."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from e2e.locate.records import Against, Cause, Located, Neighbour, Replayed, place_words
from e2e.workload.trials import trial_in_words
from profiles.errors import ExitStatus
from profiles.invocation import called

_MOST = 8
"""Kinds of places that are listed; the rest is counted."""
_SHOWN_LAYERS = 6
_LONGEST_NAME = 100


def exit_status(found: Located) -> int:
    """1 where a cause was found, 0 where nothing differs, 3 where something does and no cause was found.

    Against another engine 0 where the place is found at which the two part: they broke no promise.
    """
    if found.against is not None:
        known = found.alone_repeats and (found.first is not None or not found.answer_differs)
        return ExitStatus.GOOD if known else ExitStatus.INCOMPLETE
    if found.first is not None and found.alone_repeats:
        return ExitStatus.VERDICT
    unexplained = found.answer_differs or found.repeats[0] or not found.alone_repeats
    return ExitStatus.INCOMPLETE if unexplained else ExitStatus.GOOD


def outcome(found: Located) -> str:
    """What was found, in a sentence without its full stop."""
    if found.against is not None:
        return _outcome_against(found, found.against)
    against = (
        f"needle {found.needle + 1} ({found.needle_tokens} tokens) alone against {trial_in_words(found.trial)} "
        f"({found.sequences} sequences)"
    )
    if not found.alone_repeats:
        return f"{found.arm} does not repeat itself: {against}: nothing can be said of company"
    if found.first is not None:
        return f"{found.arm} is variant: {against}"
    differ, of = found.repeats
    if differ:
        return f"{found.arm}: {against}: bits differed in {differ} of {of} runs, and no cause was seen"
    return f"{found.arm}: {against}: every place that was judged gave the same bits"


def _outcome_against(found: Located, other: Against) -> str:
    both = f"{found.arm} and {other.name}: needle {found.needle + 1} ({found.needle_tokens} tokens) alone in both"
    if not found.alone_repeats:
        return f"{both}: {found.arm} does not repeat itself, so that nothing can be said of the other"
    if found.first is not None:
        return f"{both}: they part, which breaks no promise: two engines owe each other no equal bits"
    if found.answer_differs:
        return f"{both}: their answers differ, and where they part was not seen"
    return f"{both}: every place that was compared gave the same bits"


def lines(found: Located, directory: str) -> Iterator[str]:
    """Everything.

    Args:
        found: what was.
        directory: where the guilty call is.
    """
    yield outcome(found)
    if found.against is not None:
        yield from _lines_against(found, found.against)
        return
    if found.first is not None:
        yield from _labelled("first in", _where(found.first))
        if found.first.why_not_smaller:
            yield from _labelled("no smaller", found.first.why_not_smaller)
    if found.replayed is not None:
        yield from _labelled("follows", _follows(found.replayed))
    elif found.first is not None:
        yield from _labelled("follows", [_not_followed(found.first)])
    if found.replayed is not None:
        yield from _labelled("kernel", _kernels(found.replayed))
    if found.call is not None:
        yield from _labelled("alone", _commands(found, found.call, Path(directory)))
    if found.causes is not None:
        yield from _labelled("also", _also(found))
    yield from _labelled("seen", _seen(found))
    yield from _labelled("note", found.notes)


def _lines_against(found: Located, other: Against) -> Iterator[str]:
    yield from _labelled("one", [found.provenance])
    yield from _labelled("the other", [other.provenance])
    if found.first is not None:
        yield from _labelled("first in", _where(found.first, against=True))
    yield from _labelled("grows", _grows(found))
    yield from _labelled("answer", _answer(found.arm, other))
    if found.causes is not None:
        yield from _labelled("by itself", _by_themselves(found.causes))
    own = f", {found.unjudged} of them without a counterpart or not comparable" if found.unjudged else ""
    names = f" ({', '.join(other.lacking[:_MOST])})" if other.lacking else ""
    yield from _labelled("seen", [f"{found.places} places in {len(found.steps)} steps{own}{names}"])
    if not found.probe_kept_bits:
        yield from _labelled("", ["WITH THE PROBE THE NEEDLE HAS OTHER BITS THAN WITHOUT IT"])
    yield from _labelled("note", found.notes)


def _grows(found: Located) -> Iterator[str]:
    """The first, some in the middle and the last of the layers, in the first step."""
    cells = [one for one in found.cells if not one.step]
    apart = max(0, len(cells) - 1) / (_SHOWN_LAYERS - 1)
    for at in sorted({round(number * apart) for number in range(min(_SHOWN_LAYERS, len(cells)))}):
        cell = cells[at]
        far = "" if cell.distance is None else f", by {100 * cell.distance:.2g} % of their length"
        share = cell.rows if cell.elements is None else cell.elements
        what = "rows" if cell.elements is None else "elements"
        yield f"{100 * share:.3g} % of the {what} after {cell.path}{far}"


def _answer(arm: str, other: Against) -> Iterator[str]:
    yield f"{other.tokens_same} of {other.tokens} tokens are the same"
    if not other.tokens_same:
        return
    yield (
        f"the log probabilities of {arm}'s tokens have the same bits in {other.logprobs_same}, and are at most "
        f"{other.logprob_apart:.3g} apart"
    )


def _by_themselves(causes: Sequence[Cause]) -> Iterator[str]:
    if not causes:
        yield "given equal inputs, every place gives the same bits"
    kinds: dict[str, list[Cause]] = defaultdict(list)
    for one in causes:
        kinds[kind_of_place(one)].append(one)
    for name, own in kinds.items():
        layers = {one.layer for one in own if one.layer is not None}
        where = f", in {len(layers)} layer{'s' if len(layers) > 1 else ''}" if layers else ""
        far = [one.distance for one in own if one.distance is not None]
        most = f", by at most {100 * max(far):.2g} % of their length" if far else ""
        yield f"given equal inputs, other bits come of {name}{where}{most}"


def _labelled(label: str, texts: Sequence[str] | Iterator[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield f"  {label + ':' if label and not number else '':<11} {text}"


def _where(first: Cause, *, against: bool = False) -> Iterator[str]:
    layer = "" if first.layer is None else f", layer {first.layer}"
    step = first.step_kind if not first.step else f"{first.step_kind} (step {first.step} of the needle)"
    yield f"{step}{layer}, {first.place}"
    if first.inside:
        yield f"which calls {', '.join(first.inside)}"
    apart = ""
    if first.elements is not None:
        most = "" if first.ulps is None else f", at most {first.ulps} ulp"
        far = "" if first.distance is None else f"; all by {100 * first.distance:.2g} % of their length"
        apart = f" ({first.elements} of {first.elements_of} elements at most in one{most}{far})"
    yield (
        f"inputs equal in {first.rows_equal} of {first.rows} rows, outputs not in {first.rows_differ} of these{apart}"
    )
    if first.ranks:
        several = "s" if len(first.ranks) > 1 else ""
        yield f"in rank{several} {', '.join(map(str, first.ranks))} alone"
    if not first.operator and not against:
        yield "no operator inside could be told apart: this is the smallest module whose inputs and outputs were seen"


def _follows(found: Replayed) -> Iterator[str]:
    if found.reason:
        yield f"not known: the call could not be run alone: {found.reason}"
    elif found.same is None or found.other is None:
        yield (
            f"not known: run alone in a process of its own, the call of {found.rows_company} {found.unit} gives the "
            f"needle the bits that it has among {found.rows_alone}"
        )
    else:
        yield (
            f"the number of {found.unit} of the call: {found.rows_alone} alone, {found.rows_company} in company; the "
            f"bits change between {found.same} and {found.other}"
        )
        if found.neighbour is not None:
            yield _beside(found.neighbour)
        yield (
            f"with zeros in the neighbours' {found.unit} the needle has the bits that it has alone: what they hold "
            "matters too"
            if found.content
            else f"with zeros in the neighbours' {found.unit} they change as well: what these hold does not matter"
        )


def _kernels(found: Replayed) -> Iterator[str]:
    """What is launched on one side and not on the other."""
    same, other = Counter(found.kernels_same), Counter(found.kernels_other)
    if same == other:
        if all("::" in name and "<" not in name for name in same):
            return  # an operator of PyTorch's, which the place names already
        yield f"the same at {found.same} and at {found.other}: {', '.join(map(_short, same))}"
        return
    before, after = (", ".join(map(_short, one)) or "none" for one in (same - other, other - same))
    yield f"{before} → {after}"


def _short(name: str) -> str:
    """A kernel's name without what its compiler put before it and behind."""
    bare = name.removeprefix("void ").replace("(anonymous namespace)::", "").split("(", maxsplit=1)[0]
    return bare if len(bare) <= _LONGEST_NAME else f"{bare[: _LONGEST_NAME - 1]}…"


def _commands(found: Located, call: str, directory: Path) -> Iterator[str]:
    yield shlex.join([*called("e2e"), "replay", str(directory / call)])
    if found.replayed is None:
        return
    known, bound = found.replayed.known, found.replayed.bound
    if known is not None and found.replayed.other is not None:
        sizes, batch = (",".join(map(str, one)) for one in (known.sizes, (found.replayed.same, found.replayed.other)))
        words = ["--op", known.operator, "--shapes", sizes, "--dtype", known.dtype, "--arm", known.arm]
        yield f"{shlex.join([*called('kernels_bench'), 'order', *words, '--batch', batch])}   (in which order it adds)"
    if bound is not None:
        words = ["--plugin", str(directory / bound.plugin), "--op", bound.operator]
        yield f"{shlex.join([*called('kernels_bench'), *words])}   (every relation, on rows of all kinds)"


def _beside(found: Neighbour) -> str:
    """What it is about the sequence with which the bits change."""
    of = f"they change with a sequence of {found.keys} tokens, of which the step computes {found.queries}"
    if found.unit is None:
        return f"{of}; they do with a single one of its tokens too"
    kept = "computed " if found.unit == "queries" else ""
    return f"{of}; with {found.same} {kept}they stay, with {found.other} they change"


def _not_followed(first: Cause) -> str:
    if first.kind == "module":
        return "not known: a whole module runs the engine's own code, which no file can hold; only calls can be saved"
    if first.kind == "compiled":
        return "not known: no file can hold what is compiled; with --eager the call of its operator is saved"
    return "not known: its call could not be saved and run alone"


def _also(found: Located) -> Iterator[str]:
    assert found.causes is not None
    first = found.first
    others = [one for one in found.causes if first is None or (one.path, one.operator) != (first.path, first.operator)]
    if not others:
        yield "no other place is a cause by itself"
    kinds: dict[str, list[Cause]] = defaultdict(list)
    for one in others:
        kinds[kind_of_place(one)].append(one)
    for name, causes in list(kinds.items())[:_MOST]:
        layers = sorted({one.layer for one in causes if one.layer is not None})
        where = f" in layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}" if layers else ""
        yield f"independent of it: {name}{where}"
    if len(kinds) > _MOST:
        yield f"and {len(kinds) - _MOST} more kinds of places"
    until = f"the first {found.watched} tokens of its answer"
    if found.kept_bits:
        yield f"all of these put right as they came, the needle keeps its bits over {until}: this was run"
    elif found.kept_bits is not None:
        yield f"all of these put right as they came, the needle still differs in {until}: a cause was not seen"


def kind_of_place(cause: Cause) -> str:
    """A place whatever its layer."""
    path = ".".join("*" if part.isdecimal() else part for part in cause.path.split("."))
    return place_words(path, cause.operator)


def _seen(found: Located) -> Iterator[str]:
    own = f"{found.unjudged} of them could not be judged by themselves" if found.unjudged else "all of them judged"
    yield f"{found.places} places in {len(found.steps)} steps, {own}"
    inside = ""
    if found.seconds_inside is not None:
        several = "" if found.looked_into == 1 else "s"
        own = f"the operators of {found.looked_into} module{several}" if found.looked_into else "what else there is"
        inside = f", {found.seconds_inside:.2f} s with {own}"
    else:
        yield "layers, and what is outside of them: none gave other bits, so that nothing inside a layer was watched"
    yield (
        f"a pass in company took {found.seconds_plain:.2f} s; {found.seconds_watched:.2f} s while layers were watched "
        f"in {found.watched} of its steps{inside}; all passes {found.seconds:.0f} s"
    )
    differ, of = found.repeats
    if 0 < differ < of:
        yield f"the needle's bits in company are not always others: in {differ} of {of} runs they were"
    elif not differ and found.first is not None:
        yield "the log probabilities of its answer are the same to the bit all the same"
    yield (
        "with the probe the needle's log probabilities are those without it, to the bit"
        if found.probe_kept_bits
        else "WITH THE PROBE THE NEEDLE HAS OTHER BITS THAN WITHOUT IT: what was found is true of the watched engine"
    )


def replay_lines(found: Replayed) -> Iterator[str]:
    """What came of a call alone."""
    if found.reason:
        yield f"the call could not be run: {found.reason}"
        return
    if found.same is None:
        yield f"the needle's bits are the same among {found.rows_alone} and {found.rows_company} {found.unit}"
        return
    yield (
        f"the needle's bits change: {found.elements} elements in {found.rows_differ} rows, among {found.rows_company} "
        f"{found.unit} against {found.rows_alone}"
    )
    yield from (f"  {line}" for line in _follows(found))
