"""Find the first cause: passes of one engine that differ only in the needle's company, seen and put side by side.

To see every operator takes several times what they take themselves.  So layers are watched first; if any gives other
bits of equal inputs, all modules; and then the operators of the modules that do.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from e2e.locate.causes import cells_of, steps_of
from e2e.locate.judging.align import Match, match
from e2e.locate.judging.ranks import apart_over, joined
from e2e.locate.judging.walk import Verdict, first, places
from e2e.locate.probing.focus import OUTSIDE, WHOLE, Focus, layers_in, modules_in, operators_in
from e2e.locate.probing.watching import OVER_RANKS
from e2e.locate.records import Cause, Located
from e2e.locate.rounds import Beside, first_of, judged_in, unconfirmed
from e2e.locate.seen.trace import Place, Step
from e2e.locate.session import ROOM, Pass, Ranks, Seen
from e2e.workload.messages import Locate
from e2e.workload.options import ArmName, Options
from e2e.workload.prompts import Batch

CALL = "0.safetensors"
_FEWEST_WATCHED = 8
_MOST_TIMES = 3
"""Operators are looked at so often at most, each time in more modules."""
_MOST_LOST = 4


class Answered(Protocol):
    """What an engine gives for a prompt; see `e2e.engine.backend.Output`."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """Ids of the tokens generated."""

    @property
    def logprobs(self) -> tuple[float, ...]:
        """Of each."""


class Asked(Protocol):
    """An engine in this process.

    Attributes:
        provenance: its version and what was decided for it.
        packed: see `e2e.locate.calls.capture.Captured`.
    """

    provenance: str
    packed: dict[int, Any]

    @property
    def engine(self) -> Any:
        """vLLM's own."""

    def generate_staggered(self, prompts: Sequence[tuple[int, ...]], at_once: int) -> Sequence[Answered]:
        """Answer prompts of which each after the first ``at_once`` comes when the one before it has its first token."""


class Subject(NamedTuple):
    """What is looked into.

    Attributes:
        arm: the engine's name.
        options: what it was given.
        needle: its number.
        prompt: its token ids.
        batch: the trial's.
    """

    arm: ArmName
    options: Options
    needle: int
    prompt: tuple[int, ...]
    batch: Batch


def answers(asked: Asked, batch: Batch) -> Sequence[Answered]:
    """A trial, without anything else."""
    return asked.generate_staggered(batch.prompts, batch.at_once)


def alone(asked: Asked, prompt: tuple[int, ...]) -> Answered:
    """A needle as a batch of its own."""
    return asked.generate_staggered([prompt], 1)[0]


def parts_at(one: Answered, other: Answered) -> int | None:
    """The first token that differs, or whose log probability does, to the bit; None where none does."""
    if one.tokens == other.tokens and _bits(one) == _bits(other):
        return None
    pairs = zip(one.tokens, other.tokens, _bits(one), _bits(other), strict=False)
    return next((at for at, (a, b, p, q) in enumerate(pairs) if a != b or p != q), min(len(one.tokens), 1) - 1)


def _bits(one: Answered) -> list[int]:
    return [int(bits) for bits in np.asarray(one.logprobs, np.float32).view(np.uint32)]


def search(
    asked: Asked,
    arm: ArmName,
    options: Options,
    needles: Sequence[tuple[int, ...]],
    batches: Sequence[Batch],
    request: Locate,
) -> Located:
    """Look into the first needle that differs, or into the longest where the answers of none do.

    Args:
        asked: the engine.
        arm: its name.
        options: what it was given.
        needles: prompts of all needles.
        batches: of the trials that may be looked into.
        request: what is asked.

    Raises:
        ProbeError: the engine cannot be looked into, or the needle not be followed.
    """
    ranks = Ranks(asked.engine, asked.packed)
    with ranks.told_of():
        number, batch = _chosen(asked, needles, batches, request.needle)
        subject = Subject(arm, options, number, needles[number], batch)
        return Passes(asked, subject, ranks, all_causes=request.all_causes).locate(Path(request.directory))


def _chosen(
    asked: Asked, needles: Sequence[tuple[int, ...]], batches: Sequence[Batch], wanted: int | None
) -> tuple[int, Batch]:
    """A needle that differs in company, and the batch; where none does the longest one, and the first batch."""
    numbers = range(len(needles)) if wanted is None else [wanted]
    if wanted is not None and len(batches) == 1:
        return wanted, batches[0]
    own = {number: alone(asked, needles[number]) for number in numbers}
    for batch in batches:
        found = answers(asked, batch)
        for number in numbers:
            if parts_at(own[number], found[batch.places[number]]) is not None:
                return number, batch
    return max(numbers, key=lambda number: len(needles[number])), batches[0]


class Alone(NamedTuple):
    """A watched pass of the needle alone.

    Attributes:
        focus: what was watched.
        seen: what was seen, by rank.
    """

    focus: Focus
    seen: Sequence[Seen]

    @property
    def full(self) -> bool:
        """Whether not everything that came of it could be kept."""
        return any(one.full for one in self.seen)


class Passes:
    """The passes of one subject through one engine: layers first, then what is in them.

    Args:
        asked: the engine.
        subject: what is looked into.
        ranks: of the engine.
        all_causes: whether each is to be put right, to go on to the next.
    """

    def __init__(self, asked: Asked, subject: Subject, ranks: Ranks, *, all_causes: bool) -> None:
        self._asked, self._subject, self._ranks, self._put = asked, subject, ranks, all_causes
        self._began = time.perf_counter()
        self._place = subject.batch.places[subject.needle]
        self._alone = [alone(asked, subject.prompt) for _ in range(2)]
        self._company: list[Answered] = []
        self._seconds_plain = min(self._in_company() for _ in range(2))
        self._notes: list[str] = []
        differ = [parts_at(self._alone[0], one) for one in self._company]
        if differ[0] != differ[1]:  # once more, to say how often in how many
            self._in_company()
            differ.append(parts_at(self._alone[0], self._company[2]))
        self._repeats = sum(one is not None for one in differ), len(differ)
        at = next((one for one in differ if one is not None), 0)
        longest = max(len(one.tokens) for one in (*self._alone, *self._company))  # each may have ended by itself
        self._watched = min(longest, max(at + 1, _FEWEST_WATCHED))
        self._before: Sequence[Sequence[Step]] = [()] * ranks.count
        self._unstable: Verdict | None = None
        self._full = False
        self._same_with_probe = True

    def _in_company(self) -> float:
        """Another pass in company, without the probe; seconds that it took."""
        started = time.perf_counter()
        self._company.append(answers(self._asked, self._subject.batch)[self._place])
        return time.perf_counter() - started

    def locate(self, directory: Path) -> Located:
        """Look into it; what is found of a call is written into ``directory``.

        Raises:
            ProbeError: the needle could not be followed.
        """
        focus = layers_in(self._ranks.paths)
        rounds = [self._beside(self._pass_alone(focus), bare=True)[0]]
        if rounds[0].first() is None and rounds[0].explained and not self._repeats[0]:
            self._pass_alone(focus)
            return self._located(rounds, rounds[0])
        focus = modules_in(self._ranks.paths)
        rounds.append(self._beside(self._pass_alone(focus), put=self._put)[0])
        return self._inside(rounds, directory)

    def _inside(self, rounds: Sequence[Beside], directory: Path) -> Located:
        """Look at the operators of the modules that were guilty; where that does not explain all, of others as well."""
        paths = self._ranks.paths
        guilty = [*rounds[-1].guilty(all_of=self._put), *unconfirmed(rounds[:-1], rounds[-1:], all_of=self._put)]
        for _ in range(_MOST_TIMES):
            self._notes = []
            own = self._pass_alone(operators_in(paths, guilty))
            near, _ = self._beside(own)
            grafted, kept_bits, file = self._again(own, near, directory)
            after = [near] if grafted is None else [near, grafted]
            more = [path for path in after[-1].guilty(all_of=self._put) if not own.focus.looks_into(path)]
            if not more and not (near.explained and kept_bits is not False):
                more = [] if all(map(own.focus.looks_into, paths)) else [WHOLE]
            if not more:
                break
            guilty += more
        lost = unconfirmed(rounds, after, all_of=self._put)
        if lost:
            others = f" and {len(lost) - _MOST_LOST} more" if len(lost) > _MOST_LOST else ""
            self._notes.append(
                f"other bits of equal inputs did not come every time: in {', '.join(lost[:_MOST_LOST])}{others} they "
                "came in one pass and not in a later one"
            )
        found = first_of(rounds, near, lost)
        if found is None:
            return self._located(rounds, near)
        beside, verdict = found
        earlier = beside is not near
        cause = beside.cause(verdict, self._prompt, again=not earlier)
        causes = None
        if grafted is not None:
            own_causes = (grafted.cause(one, self._prompt) for one in places(grafted.verdicts).values())
            causes = (*([cause] if earlier else []), *own_causes)
        return self._located(rounds, near, cause, (causes, kept_bits, None if earlier else file))

    @property
    def _prompt(self) -> int:
        return len(self._subject.prompt)

    def _located(
        self,
        rounds: Sequence[Beside],
        near: Beside,
        cause: Cause | None = None,
        more: tuple[tuple[Cause, ...] | None, bool | None, str | None] = (None, None, None),
    ) -> Located:
        """What was found, as it is kept and shown."""
        causes, kept_bits, file = more
        inside = near.focus.inside or OUTSIDE
        judged = judged_in([*rounds, near])
        return Located(
            arm=self._subject.arm,
            options=self._subject.options,
            provenance=self._asked.provenance,
            trial=self._subject.batch.trial,
            needle=self._subject.needle,
            needle_tokens=self._prompt,
            sequences=len(self._subject.batch.prompts),
            repeats=self._repeats,
            answer_differs=parts_at(self._alone[0], self._company[0]) is not None,
            alone_repeats=parts_at(*self._alone) is None and self._unstable is None,
            probe_kept_bits=self._same_with_probe,
            first=cause,
            causes=causes,
            kept_bits=kept_bits,
            watched=self._watched,
            places=len(judged),
            unjudged=sum(not one for one in judged.values()),
            notes=(*self._remarks(near.matches), *self._notes),
            steps=steps_of(near.matches, self._prompt),
            cells=cells_of(near.verdicts, [one.step for one in near.matches], near.apart),
            call=file,
            seconds=time.perf_counter() - self._began,
            seconds_plain=self._seconds_plain,
            seconds_watched=rounds[0].seconds,
            seconds_inside=None if near is rounds[0] else near.seconds,
            looked_into=len(inside - OUTSIDE - self._ranks.sealed),
        )

    def _pass(self, asked: Pass) -> tuple[list[Seen], Answered]:
        """One pass under the probe."""
        if asked.company:
            return self._ranks.watch(asked, lambda: answers(self._asked, self._subject.batch)[self._place])
        return self._ranks.watch(asked, lambda: alone(self._asked, self._subject.prompt))

    def _asked_for(self, focus: Focus) -> Pass:
        prompt = self._subject.prompt
        return Pass("0", prompt, len(prompt) + self._watched - 2, focus)

    def _pass_alone(self, focus: Focus) -> Alone:
        """Another pass alone, compared with the one before it."""
        seen, said = self._pass(self._asked_for(focus))
        self._same_with_probe &= parts_at(said, self._alone[0]) is None
        if self._unstable is None:
            both = zip(self._before, seen, strict=True)
            self._unstable = first(joined([match(before, one.steps) for before, one in both])[0])
        own = Alone(focus, seen)
        self._before, self._full = [one.steps for one in seen], self._full or own.full
        return own

    def _beside(
        self,
        own: Alone,
        *,
        bare: bool = False,
        put: bool = False,
        unlike: Collection[str] = OUTSIDE,
        wanted: tuple[int, Place] | None = None,
    ) -> tuple[Beside, Answered]:
        """A pass in company beside the one alone that was watched last.

        Args:
            own: that; the same is watched.
            bare: see `e2e.locate.session.Pass`.
            put: whether every cause is put right as soon as it is there.
            unlike: see `Comparer`; as long as it is not known, operators are not put right.
            wanted: likewise.
        """
        asked = self._asked_for(own.focus)._replace(
            request=str(self._place), company=True, bare=bare, put=put, unlike=frozenset(unlike), wanted=wanted
        )
        started = time.perf_counter()
        seen, said = self._pass(asked)
        seconds = time.perf_counter() - started
        matches = [match(alone.steps, one.steps) for alone, one in zip(own.seen, seen, strict=True)]
        verdicts, differing = joined(matches)
        apart = apart_over([one.apart for one in seen], differing)
        beside = Beside(own.focus, matches[0], verdicts, apart, seconds, len(seen), differing)
        if not put or beside.first() is None:
            self._same_with_probe &= any(parts_at(said, one) is None for one in self._company)
        return beside, said

    def _again(self, own: Alone, near: Beside, directory: Path) -> tuple[Beside | None, bool | None, str | None]:
        """Another pass in company: the guilty call is saved, and every cause put right as soon as it is there."""
        found = near.first()
        if found is None and not self._put:
            return None, None, None
        wanted = None
        if found is not None:
            wanted = next(at for at, one in enumerate(near.matches) if one.step is found.step), found.event.place
        unlike = {path for one in near.matches for path in one.unlike}
        grafted, said = self._beside(own, put=self._put, unlike=unlike, wanted=wanted)
        file = None if found is None else self._saved(near, directory, found)
        if not self._put:
            return None, None, file
        end = self._watched
        kept = (said.tokens[:end], _bits(said)[:end]) == (self._alone[0].tokens[:end], _bits(self._alone[0])[:end])
        return grafted, None if own.full else kept, file

    def _saved(self, near: Beside, directory: Path, found: Verdict) -> str | None:
        """The name of the file that holds the guilty call; None, and a note that says why, where there is none."""
        kind = found.event.kind
        if kind in ("module", "compiled"):
            return None
        if kind == "cache write":
            said: str | None = "a write into the cache cannot be"
        elif found.event.place.operator in OVER_RANKS:
            said = "it takes what all ranks have"
        else:
            rank = next(iter(near.ranks_of(found)), 0)
            said = self._ranks.save(rank, directory / CALL, str(found.event.place))
        if said is None:
            return CALL
        self._notes.append(f"the call could not be saved: {said}")
        return None

    def _remarks(self, matches: Sequence[Match]) -> list[str]:
        """What a reader must know of how the search went."""
        notes = []
        if self._unstable is not None:
            notes.append(f"alone, {self._unstable.event.place} gave other bits of equal inputs the second time")
        if self._full:
            notes.append(
                f"{ROOM >> 30} GiB did not hold the needle's rows: later places were not put right; a shorter needle "
                "shows all (--needle 1)"
            )
        if unread := self._ranks.unread:
            notes.append(
                f"the state of {len(unread)} layers ({unread[0]}, …) could not be read: it is known by what the "
                "layers were given"
            )
        parted = next((one.from_position for one in matches if one.from_position is not None), None)
        if parted is not None:
            notes.append(f"token ids part at position {parted}; what is computed of other tokens was not compared")
        return notes
