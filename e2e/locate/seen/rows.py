"""Which rows of a step's tensors are the needle's: by its request and its positions, as the engine has them.

A tensor whose first dimension counts the step's tokens has a row a token, one whose first dimension counts sequences a
row a sequence.  Weights, buffers and the cache have none, whatever their sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Space = Literal["token", "sequence", "whole"]
"""What a tensor's rows are; ``whole``: it has none that belong to the batch, and is compared as it is."""


class RowsError(Exception):
    """The needle's rows are not where the engine's batch says; the message says what was found."""


@dataclass(frozen=True)
class NeedleRows:
    """Where a needle stands in one step.

    Attributes:
        request: the engine's name of its request.
        place: which of the step's sequences it is.
        offset: which of the step's tokens is its first.
        count: how many of them are its own.
        first: position of the first of them in the sequence.
        tokens: of the step.
        padded: rows of a tensor that has one a token: more than ``tokens`` where the engine pads.
        sequences: of the step.
    """

    request: str
    place: int
    offset: int
    count: int
    first: int
    tokens: int
    padded: int
    sequences: int

    @property
    def last(self) -> int:
        """Position of the last of its tokens: the one that a row a sequence belongs to."""
        return self.first + self.count - 1

    def space(self, shape: tuple[int, ...]) -> Space:
        """What the rows of a tensor of this shape are."""
        if shape and shape[0] in (self.tokens, self.padded):
            return "token"
        if shape and shape[0] == self.sequences:
            return "sequence"
        return "whole"

    def slice_of(self, space: Space) -> slice:
        """The needle's rows among those of a tensor."""
        if space == "token":
            return slice(self.offset, self.offset + self.count)
        return slice(self.place, self.place + 1) if space == "sequence" else slice(None)

    def positions(self, space: Space) -> range:
        """Positions in the sequence that these rows belong to."""
        return range(self.first if space == "token" else self.last, self.last + 1)


def needle_rows(batch: Any, plan: Any, request: str, padded: int) -> NeedleRows | None:
    """Where the needle is in a step that is about to run; None where it is not part of it.

    Args:
        batch: vLLM's ``InputBatch``, brought up to date for the step.
        plan: the scheduler's output for the step.
        request: the engine's name of the needle's request.
        padded: rows of the step's tensors, with padding.
    """
    names = list(batch.req_ids)
    counts = [int(plan.num_scheduled_tokens.get(name, 0)) for name in names]
    if request not in names or not counts[names.index(request)]:
        return None
    place = names.index(request)
    return NeedleRows(
        request=request,
        place=place,
        offset=sum(counts[:place]),
        count=counts[place],
        first=int(batch.num_computed_tokens_cpu[place]),
        tokens=sum(counts),
        padded=padded,
        sequences=len(names),
    )


class Found(NamedTuple):
    """What a step's own tensors hold where the needle is said to stand: copies, where they were computed.

    Attributes:
        positions: of its tokens.
        token_ids: likewise.
    """

    positions: Any
    token_ids: Any


def found_at(rows: NeedleRows, positions: Any, token_ids: Any) -> Found:
    """What is there; nothing waits for it.

    Args:
        rows: where the needle is said to stand.
        positions: of the step's tokens, on the device.
        token_ids: likewise.
    """
    own = rows.slice_of("token")
    return Found(positions[..., own].reshape(-1, rows.count)[0].clone(), token_ids[own].clone())


def check_rows(rows: NeedleRows, there: Found, prompt: tuple[int, ...]) -> tuple[int, ...]:
    """See that the step's own tensors held the needle there; waits for the device.

    Args:
        rows: where it is said to stand.
        there: what they held.
        prompt: the needle's.

    Returns:
        The token ids of its rows.

    Raises:
        RowsError: another sequence is there.
    """
    own = rows.slice_of("token")
    found, tokens = there.positions.tolist(), tuple(there.token_ids.tolist())
    known = prompt[rows.first : rows.last + 1]
    if found != list(range(rows.first, rows.last + 1)) or tokens[: len(known)] != known:
        raise RowsError(
            f"rows {own.start} to {own.stop - 1} of a step hold positions {found[0]} to {found[-1]} of another "
            f"sequence than the needle, whose positions {rows.first} to {rows.last} were expected there"
        )
    return tokens
