"""Where two engines of the same model part, and how far they grow apart: both with the needle alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from e2e.locate.against.counterparts import Counterparts
from e2e.locate.against.hugging_face import HuggingFace, TransformersError
from e2e.locate.causes import AllApart, cause_of, cells_of, steps_of
from e2e.locate.judging.align import Match, match
from e2e.locate.judging.kept_pass import KeptPass, PassWords, read_pass
from e2e.locate.judging.walk import Verdict, first, places, walk
from e2e.locate.probing.focus import EVERYTHING
from e2e.locate.records import Against, Cause, Located
from e2e.locate.search import Answered, Asked, alone, parts_at
from e2e.locate.session import Pass, Ranks

_NO_COUNTERPART = "it has no counterpart in transformers"
_FEWEST = 0.5
"""Share of the modules that must have a counterpart, so that the model is taken for the same."""


class Compared(NamedTuple):
    """One pass beside another.

    Attributes:
        matches: steps beside steps.
        verdicts: of all places.
        apart: how far they are apart.
    """

    matches: Sequence[Match]
    verdicts: Sequence[Verdict]
    apart: AllApart

    def causes(self, prompt: int) -> tuple[Cause, ...]:
        """Of each place where equal inputs gave other bits, the first."""
        return tuple(cause_of(one, self.verdicts, self.apart, prompt) for one in places(self.verdicts).values())


class Said(NamedTuple):
    """What another engine made of the first one's answer.

    Attributes:
        tokens: that it chose.
        logprobs: that it gave the tokens of the first.
        of: how many tokens of the answer it was given, or reached by itself.
    """

    tokens: Sequence[int]
    logprobs: Sequence[float]
    of: int


def with_transformers(kept: KeptPass, where: tuple[str, str | None, str], named: str, *, put: bool) -> Located:
    """Compare a kept pass with transformers' over the same tokens.

    Args:
        kept: vLLM's.
        where: the model's path or name, as vLLM was given it; how transformers computes attention, None for its own
            choice; and the device that it computes on.
        named: how transformers was asked for.
        put: whether every module and function is also given vLLM's own inputs, so that each is judged by itself.

    Raises:
        TransformersError: transformers cannot compute the model, or has it in other modules.
    """
    import torch

    began = time.perf_counter()
    words = kept.words
    tokens = (*words.prompt, *words.tokens[: words.watched - 1])
    theirs = HuggingFace(*where)
    forward = theirs.forward(tokens)
    pairs = Counterparts(kept, forward)
    seen = _beside(kept, pairs)
    judged = sum(bool(one.compared.any()) for one in seen.verdicts)
    if judged < _FEWEST * len(seen.verdicts):
        raise TransformersError(
            f"of {len(seen.verdicts)} modules of vLLM's {judged} have a counterpart in {theirs.provenance}: its model "
            "is made of other modules"
        )
    causes = None
    if put:
        rows = pairs.rows_to_put()
        causes = _beside(kept, Counterparts(kept, theirs.forward(tokens, rows), rows)).causes(len(words.prompt))
    logprobs = torch.log_softmax(forward.logits.float(), -1)[len(words.prompt) - 1 :]
    chosen = torch.tensor(words.tokens[: words.watched])
    said = Said(
        tokens=forward.logits[len(words.prompt) - 1 :].argmax(1).tolist(),
        logprobs=logprobs.gather(1, chosen[:, None])[:, 0].tolist(),
        of=len(chosen),
    )
    lacking = tuple(dict.fromkeys(_kind(path) for path in pairs.lacking))
    about = (named, theirs.provenance, lacking)
    return _located(kept, seen, causes, _against(words, said, about), began)


def _beside(kept: KeptPass, pairs: Counterparts) -> Compared:
    only = [step._replace(events=tuple(one for one in step.events if one.kind == "module")) for step in kept.steps]
    matches = match(pairs.steps, only, _NO_COUNTERPART)
    return Compared(matches, list(walk(matches)), pairs.apart)


def with_engine(asked: Asked, file: Path, named: str, *, put: bool) -> Located:
    """Answer the needle of a kept pass in another engine, and compare.

    Of several ranks each is given the first engine's rows, and the first one's are looked at: what every rank has, such
    as a layer's output, is the same in all of them, and of what each has a part there is no counterpart.

    Args:
        asked: the other engine.
        file: that holds the pass of the first.
        named: how the other was asked for.
        put: whether what parts by itself is put right, to go on to the next that does.

    Raises:
        ProbeError: the needle could not be followed.
    """
    began = time.perf_counter()
    kept = read_pass(file)
    words = kept.words
    ranks = Ranks(asked.engine, {}, caches=False)
    plain = alone(asked, words.prompt)
    blind = Pass("0", words.prompt, len(words.prompt) + words.watched - 2, EVERYTHING, bare=True)

    def watched(how: Pass) -> tuple[Compared, Answered]:
        """A pass that is watched, compared with the kept one, and the answer."""
        with ranks.told_of():
            (own, *_), answer = ranks.watch(how, lambda: alone(asked, words.prompt))
        matches = match(kept.steps, own.steps)
        return Compared(matches, list(walk(matches)), own.apart), answer

    unjudged, said = watched(blind)
    beside = blind._replace(
        bare=False, kept=file, unlike=frozenset(path for one in unjudged.matches for path in one.unlike)
    )
    seen, _ = watched(beside)
    causes = None
    before, after = ([one.step for one in compared.matches] for compared in (unjudged, seen))
    unstable = first(list(walk(match(before, after))))
    if put:
        causes = watched(beside._replace(put=True))[0].causes(len(words.prompt))
    pairs = enumerate(zip(words.tokens, said.tokens, strict=False))
    parts = next((at for at, (own, other) in pairs if own != other), words.watched)
    reached = min(parts + 1, words.watched)
    answer = Said(said.tokens[:reached], said.logprobs[: min(parts, words.watched)], reached)
    found = _located(kept, seen, causes, _against(words, answer, (named, asked.provenance, ())), began)
    kept_bits = words.probe_kept_bits and parts_at(plain, said) is None
    more = [] if unstable is None else [f"{named}: {unstable.event.place} gave other bits of equal inputs"]
    return found.model_copy(update={"probe_kept_bits": kept_bits, "notes": (*found.notes, *more)})


def _against(words: PassWords, said: Said, about: tuple[str, str, tuple[str, ...]]) -> Against:
    """How much of the two answers agrees, to the bit."""
    own, other = (np.asarray(one[: len(said.logprobs)], np.float32) for one in (words.logprobs, said.logprobs))
    name, provenance, lacking = about
    return Against(
        name=name,
        provenance=provenance,
        lacking=lacking,
        tokens=said.of,
        tokens_same=sum(a == b for a, b in zip(words.tokens, said.tokens, strict=False)),
        logprobs_same=int((own.view(np.uint32) == other.view(np.uint32)).sum()),
        logprob_apart=float(np.abs(own - other).max()) if len(own) else 0.0,
    )


def _located(
    kept: KeptPass, seen: Compared, causes: tuple[Cause, ...] | None, against: Against, began: float
) -> Located:
    """What was found, as it is kept and shown."""
    words, prompt = kept.words, len(kept.words.prompt)
    found = first(seen.verdicts)
    notes = list(words.notes)
    if words.full:
        notes.append("there was no room for all of the needle's rows: of later places only the digests were compared")
    apart = against.tokens_same < against.tokens or against.logprobs_same < against.tokens_same
    return Located(
        arm=words.arm,
        options=words.options,
        provenance=words.provenance,
        trial=0,
        needle=words.needle,
        needle_tokens=prompt,
        sequences=1,
        repeats=(int(apart), 1),
        answer_differs=apart,
        alone_repeats=words.alone_repeats,
        probe_kept_bits=words.probe_kept_bits,
        first=None if found is None else cause_of(found, seen.verdicts, seen.apart, prompt),
        causes=causes,
        kept_bits=None,
        watched=words.watched,
        places=len(seen.verdicts),
        unjudged=sum(not one.compared.any() for one in seen.verdicts),
        notes=tuple(notes),
        steps=steps_of(seen.matches, prompt),
        cells=cells_of(seen.verdicts, [one.step for one in seen.matches], seen.apart),
        seconds=words.seconds + time.perf_counter() - began,
        seconds_plain=words.seconds_plain,
        seconds_watched=words.seconds_watched,
        against=against,
    )


def _kind(path: str) -> str:
    """A path whatever its layer."""
    return ".".join("*" if part.isdecimal() else part for part in path.split(".")) or "the model as a whole"
