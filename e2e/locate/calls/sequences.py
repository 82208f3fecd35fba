"""What calls of attention have in common: query rows, the sequences' own cached keys and values, and their lengths."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from e2e.locate.calls.capture import write
from e2e.locate.seen.rows import NeedleRows
from profiles.run_files.record import Record

Count = Annotated[int, Field(ge=1, lt=1 << 31)]
TENSORS = ("query", "cache", "table", "expected")
"""Of every saved call: the queries' rows, the blocks of the cache that its sequences have, which ones each has, and the
needle's rows as they came out in the engine."""

_SLOTS = 2
"""The dimension of a cache that counts the tokens of a block."""


class SequenceWords(Record):
    """What is known of a call beside its tensors.

    Attributes:
        where: in words, the place in the engine.
        place: which of the sequences is the needle.
        lengths: of the sequences, cached tokens and those of the call.
        queries: tokens of each in the call.
        scale: of the scores.
        softcap: of the scores; 0 for none.
    """

    where: str
    place: Annotated[int, Field(ge=0)]
    lengths: tuple[Count, ...]
    queries: tuple[Count, ...]
    scale: float
    softcap: float

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.lengths) != len(self.queries) or self.place >= len(self.lengths):
            raise ValueError("the needle is not among the sequences of the call")
        return self


def sequences_of(told: Any, rows: NeedleRows) -> dict[str, Any]:
    """Which sequence is the needle, how long each is, and how many tokens of it the call computes.

    Args:
        told: vLLM's metadata of the step.
        rows: where the needle stands in it.
    """
    starts = told.query_start_loc[: rows.sequences + 1].tolist()
    return {
        "place": rows.place,
        "lengths": tuple(told.seq_lens[: rows.sequences].tolist()),
        "queries": tuple(b - a for a, b in pairwise(starts)),
    }


def tensors_of(args: Mapping[str, Any], lengths: Sequence[int], rows: NeedleRows) -> dict[str, Any]:
    """What is saved of a call's tensors, see `TENSORS`, in main memory.

    Args:
        args: of the implementation's ``forward``, by name, after it has run; the cache is of shape (blocks, heads,
            slots, 2 × width).
        lengths: of the sequences.
        rows: where the needle stands in the step.
    """
    import torch

    cache, told = args["kv_cache"], args["attn_metadata"]
    slots = cache.shape[_SLOTS]
    table = told.block_table[: len(lengths)].cpu()
    blocks = [table[at, : -(-length // slots)].tolist() for at, length in enumerate(lengths)]
    kept = sorted({block for own in blocks for block in own})
    places = {block: place for place, block in enumerate(kept)}
    own_table = torch.zeros(len(blocks), max(map(len, blocks)), dtype=torch.int32)
    for at, own in enumerate(blocks):
        own_table[at, : len(own)] = torch.tensor([places[block] for block in own], dtype=torch.int32)
    mine = slice(rows.offset, rows.offset + rows.count)
    return {
        "query": args["query"][: rows.tokens].detach().to("cpu", copy=True),
        "cache": cache.index_select(0, torch.tensor(kept, device=cache.device)).cpu(),
        "table": own_table,
        "expected": args["output"].detach().view(len(args["output"]), -1)[mine].to("cpu", copy=True),
    }


class CapturedSequences:
    """A call that has just run.

    Args:
        key: under which a file holds its words.
        words: all that is known of it but the place.
        tensors: by name, see `TENSORS`.
    """

    def __init__(self, key: str, words: SequenceWords, tensors: Mapping[str, Any]) -> None:
        self._key, self._words, self._tensors = key, words, tensors

    def save(self, file: Path, where: str) -> None:
        """Write it; see `e2e.locate.calls.capture.Captured.save`."""
        words = self._words.model_copy(update={"where": where})
        write(file, self._tensors, {self._key: json.dumps(words.model_dump())})


@dataclass(frozen=True)
class Share:
    """What of a sequence takes part in a call.

    Attributes:
        sequence: its number.
        queries: so many of its tokens are computed, the last ones.
        keys: so many of its tokens are attended to, the first ones.
    """

    sequence: int
    queries: int
    keys: int


class SavedSequences(ABC):
    """Attention's call; see `e2e.locate.calls.replay.SavedCall`.

    Args:
        told: what was written of it as JSON.
        tensors: by name.

    Attributes:
        fewest: sequences of the call with the needle alone.
        most: sequences of the call as it was.
    """

    unit: Literal["sequences"] = "sequences"

    def __init__(self, told: SequenceWords, tensors: Mapping[str, Any]) -> None:
        self._sequences, self._tensors = told, dict(tensors)
        self.fewest, self.most = 1, len(told.lengths)

    @property
    def expected(self) -> list[Any]:
        """The needle's rows as they came out in the engine."""
        return [self._tensors["expected"]]

    def needle_of(self, size: int, *, zeros: bool = False) -> list[Any]:
        """The needle's rows of what comes out of a call of so many sequences.

        Args:
            size: at least 1, the needle itself.
            zeros: whether the neighbours' queries, keys and values are zeros.
        """
        return self._needle_among(self._shares(size), zeros=zeros)

    def last_of(self, size: int) -> Share:
        """The neighbour that a call of so many sequences has, and one of one less has not."""
        return self._whole(self._others()[size - 2])

    def needle_beside(self, size: int, other: Share) -> list[Any]:
        """The needle's rows of what comes out of a call of so many sequences, of one of which less takes part."""
        shares = [other if one.sequence == other.sequence else one for one in self._shares(size)]
        return self._needle_among(shares, zeros=False)

    def _others(self) -> list[int]:
        return [at for at in range(self.most) if at != self._sequences.place]

    def _whole(self, sequence: int) -> Share:
        return Share(sequence, self._sequences.queries[sequence], self._sequences.lengths[sequence])

    def _shares(self, size: int) -> list[Share]:
        """The needle and the first of the others, in the order in which they stood."""
        return [self._whole(at) for at in sorted([self._sequences.place, *self._others()[: size - 1]])]

    def _needle_among(self, shares: Sequence[Share], *, zeros: bool) -> list[Any]:
        import torch

        place = self._sequences.place
        ends = list(accumulate(self._sequences.queries))
        cache = self._tensors["cache"]
        parts = [self._tensors["query"][ends[one.sequence] - one.queries : ends[one.sequence]] for one in shares]
        if zeros:
            parts = [
                part if one.sequence == place else torch.zeros_like(part)
                for one, part in zip(shares, parts, strict=True)
            ]
            own = sorted(set(self._tensors["table"][place, : self._blocks(place)].tolist()))
            kept = torch.zeros_like(cache)
            kept[own] = cache[own]
            cache = kept
        out = self._attend(shares, torch.cat(parts), cache)
        start = sum(one.queries for one in shares if one.sequence < place)
        return [out[start : start + self._sequences.queries[place]].clone()]

    def _blocks(self, sequence: int) -> int:
        slots: int = self._tensors["cache"].shape[_SLOTS]
        return -(-self._sequences.lengths[sequence] // slots)

    @abstractmethod
    def _attend(self, shares: Sequence[Share], query: Any, cache: Any) -> Any:
        """Attention of these: a row for each token, in main memory.

        Args:
            shares: of the sequences, in order.
            query: their rows.
            cache: the blocks that were saved, in main memory.
        """


def with_queries(share: Share, queries: int) -> Share:
    """The same sequence, of which so many tokens are computed."""
    return replace(share, queries=queries)


def with_keys(share: Share, keys: int) -> Share:
    """The same sequence, of which so many tokens are there."""
    return replace(share, keys=keys, queries=min(share.queries, keys))
