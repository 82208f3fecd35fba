"""What becomes of needles at other tensor-parallel sizes, in lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from e2e.records import Answer, AtTpSize, TpSizes
from e2e.report.verdict import Divergence, difference, same, worst_of
from profiles.errors import ExitStatus

_PROMISE = (
    "nobody promises this: at another TP size each rank adds other parts of K, and more of them are added up, so that "
    "a difference breaks no claim"
)


def exit_status(found: TpSizes) -> int:
    """0 whether bits differ or not, since nobody promises that they do not; 3 where they could not be compared."""
    return ExitStatus.INCOMPLETE if any(_unusable(one) for one in found.sizes) else ExitStatus.GOOD


def lines(found: TpSizes) -> Iterator[str]:
    """Every size, and each against the first that can be compared."""
    yield f"{found.arm}, each needle alone, {found.options.model}: the same bits at every TP size? ({_PROMISE})"
    first: AtTpSize | None = None
    for one in found.sizes:
        if why := _unusable(one):
            yield f"  TP {one.tp_size}: not compared: {why}"
        elif first is None:
            first = one
            yield f"  TP {one.tp_size}: {len(_own(one))} needles, the same bits when asked again ({one.provenance})"
        else:
            yield f"  TP {one.tp_size} against TP {first.tp_size}: {_compared(first, one)} ({one.provenance})"


def differences(first: AtTpSize, other: AtTpSize) -> list[Divergence]:
    """Where the needles' answers at two sizes part."""
    return [difference(a, b, None) for a, b in zip(_own(first), _own(other), strict=True) if not same(a, b)]


def _own(found: AtTpSize) -> Sequence[Answer]:
    return found.answers[: len(found.answers) // 2]


def _unusable(found: AtTpSize) -> str:
    """Why nothing can be said of a size."""
    if found.reason:
        return found.reason
    count = len(found.answers) // 2
    again = [needle for needle in range(count) if not same(found.answers[needle], found.answers[count + needle])]
    return f"needle {again[0] + 1} has other bits when it is asked again" if again else ""


def _compared(first: AtTpSize, other: AtTpSize) -> str:
    found, count = differences(first, other), len(_own(first))
    if not found:
        return (
            f"the same bits in all {count} needles; more needles and longer answers (--needles, --max-tokens) show more"
        )
    worst = worst_of(found)
    tokens = sum(one.tokens_differ for one in found)
    since = f"token {worst.prompt_token + 1} of its prompt" if worst.prompt_token is not None else _answered(worst)
    return (
        f"other bits in {len(found)} of {count} needles, other tokens in {tokens}; needle {worst.needle + 1} from "
        f"{since} on, log probabilities of the same tokens by up to {worst.largest:.3g}"
    )


def _answered(found: Divergence) -> str:
    return f"token {(found.step or 0) + 1} of its answer"
