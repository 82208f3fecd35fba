"""What was seen of one pair of passes, and how it goes with what was seen of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from e2e.locate.causes import AllApart, cause_of
from e2e.locate.judging.align import Match
from e2e.locate.judging.ranks import Key
from e2e.locate.judging.walk import Verdict, first, places
from e2e.locate.probing.focus import Focus, within
from e2e.locate.records import Cause
from e2e.locate.seen.trace import Place

NOT_AGAIN = "in the passes that looked into it, it gave the same bits"
NOT_INSIDE = "nothing inside was watched: it gave the same bits in the passes before"


class Beside(NamedTuple):
    """A pass in company beside the one alone.

    Attributes:
        focus: what was watched in both.
        matches: steps beside steps, of the first rank.
        verdicts: of all places, in order.
        apart: how far the needle's rows were apart.
        seconds: that the pass in company took.
        ranks: how many there are.
        differing: of several those whose outputs differ, by place.
    """

    focus: Focus
    matches: Sequence[Match]
    verdicts: Sequence[Verdict]
    apart: AllApart
    seconds: float
    ranks: int = 1
    differing: Mapping[Key, tuple[int, ...]] = {}

    def first(self) -> Verdict | None:
        """The first place that gave other bits of equal inputs."""
        return first(self.verdicts)

    @property
    def explained(self) -> bool:
        """Whether the first place that gave other bits was guilty of it: else what changed them was not seen."""
        differs = next((one for one in self.verdicts if one.differs.any()), None)
        return differs is None or bool(differs.guilty.any())

    def guilty(self, *, all_of: bool) -> tuple[str, ...]:
        """Paths of the modules that did, or of the first."""
        found = [one for one in places(self.verdicts).values() if one.event.kind != "operator"]
        return tuple(dict.fromkeys(one.event.place.path for one in (found if all_of else found[:1])))

    def cause(self, found: Verdict, prompt: int, *, again: bool = True) -> Cause:
        """What is told of one of the verdicts.

        Args:
            found: it.
            prompt: the needle's tokens.
            again: whether it came in later passes too.
        """
        own = cause_of(found, self.verdicts, self.apart, prompt)
        own = own.model_copy(update={"ranks": self.ranks_of(found)})
        if not again:
            return own.model_copy(update={"why_not_smaller": (NOT_AGAIN,)})
        if own.kind == "module" and not self.focus.looks_into(own.path):
            return own.model_copy(update={"why_not_smaller": (NOT_INSIDE,)})
        return own

    def ranks_of(self, found: Verdict) -> tuple[int, ...]:
        """The ranks in which a place's outputs differ; none where that is all of them, or there is one."""
        number = next(at for at, one in enumerate(self.matches) if one.step is found.step)
        own = self.differing.get((number, found.event.place), ())
        return own if len(own) < self.ranks else ()


def unconfirmed(before: Sequence[Beside], after: Sequence[Beside], *, all_of: bool) -> list[str]:
    """Paths of modules that gave other bits in earlier passes, and neither they nor what is in them did in later ones.

    Args:
        before: earlier passes.
        after: later ones.
        all_of: whether more than the first was looked for.
    """
    came = {one.event.place.path for beside in after for one in places(beside.verdicts).values()}
    sought = dict.fromkeys(path for beside in before for path in beside.guilty(all_of=all_of))
    return [path for path in sought if not any(within(one, [path]) for one in came)]


def first_of(before: Sequence[Beside], near: Beside, lost: Sequence[str]) -> tuple[Beside, Verdict] | None:
    """The first place of all, and the pass in which it was: the nearest, unless what came before did not come again.

    Args:
        before: the passes before the nearest.
        near: the nearest, in which nothing was put right.
        lost: see `unconfirmed`.
    """
    found = near.first()
    suspects = [(beside, one) for beside in reversed(before) if (one := beside.first()) is not None]
    for beside, one in suspects:
        if one.event.place.path in lost and (found is None or _order(near, one) < _order(near, found)):
            return beside, one
    return None if found is None else (near, found)


def _order(near: Beside, found: Verdict) -> int:
    """Where among a pass's verdicts a place of the same step stands."""
    key = found.step.counted, found.event.place
    own = enumerate(near.verdicts)
    return next((at for at, one in own if (one.step.counted, one.event.place) == key), len(near.verdicts))


def judged_in(passes: Sequence[Beside]) -> dict[tuple[int, Place], bool]:
    """By step and place whether any row was compared, in any of some passes."""
    found: dict[tuple[int, Place], bool] = {}
    for one in (one for beside in passes for one in beside.verdicts):
        key = one.step.counted, one.event.place
        found[key] = found.get(key, False) or bool(one.compared.any())
    return found
