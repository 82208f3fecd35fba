"""What a server says, taken as typed records at once; what is no such thing is told in one line."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from e2e.engine.error_causes import ServerError
from e2e.records import TokenId


class Reply(BaseModel):
    """Base of what servers say, which is more than is needed here."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class ServedModel(Reply):
    """A model that a server has.

    Attributes:
        id: its name in requests.
        root: path or name of its checkpoint.
        max_model_len: most tokens of a sequence, prompt and answer.
    """

    id: str
    root: str | None = None
    max_model_len: int | None = None


class Models(Reply):
    """The answer of ``/v1/models``."""

    data: tuple[ServedModel, ...] = Field(min_length=1)


class Release(Reply):
    """The answer of ``/version``."""

    version: str


class Tokenized(Reply):
    """The answer of ``/tokenize``."""

    tokens: tuple[TokenId, ...]


class Logprobs(Reply):
    """Log probabilities of the tokens of a choice, and of an echoed prompt's before them.

    Attributes:
        token_logprobs: None for a prompt's first token, which has none, and where vLLM's are NaN, for which JSON has no
            number.
    """

    token_logprobs: tuple[float | None, ...]


class Choice(Reply):
    """More of an answer."""

    token_ids: tuple[TokenId, ...] | None = None
    logprobs: Logprobs | None = None


class Event(Reply):
    """One event of the stream that answers ``/v1/completions``; where the server fails, ``error`` says why."""

    choices: tuple[Choice, ...] = ()
    error: object = None


R = TypeVar("R", bound=Reply)


def read(kind: type[R], said: bytes, where: str) -> R:
    """A record out of JSON.

    Args:
        kind: the record's type.
        said: what the server sent.
        where: what it answers, for the message.

    Raises:
        ServerError: it is something else; the message says what is wrong first.
    """
    try:
        return kind.model_validate_json(said)
    except ValidationError as error:
        first = error.errors()[0]
        wrong = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise ServerError(f"{where} answers what no vLLM does: {wrong}") from error


def parted(logprobs: Sequence[float | None], prompt: int, answer: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Log probabilities of an echoed prompt's tokens from its second on, and of the answer's.

    Args:
        logprobs: all that came, the prompt's first.
        prompt: tokens of the prompt; 0 where it was not echoed.
        answer: tokens of the answer.

    Raises:
        ServerError: they are not one for every token, or one of them is no number of fp32.  Nothing is made of such an
            answer: were some left out, the others would stand at tokens that are not theirs.
    """
    asked = f"{answer} tokens" + (f" and the {prompt} of their prompt" if prompt else "")
    if len(logprobs) != prompt + answer:
        raise ServerError(f"the server sent {len(logprobs)} log probabilities for {asked}; nothing can be compared")
    known = tuple(value for value in logprobs[bool(prompt) :] if value is not None)
    lacking = len(logprobs) - bool(prompt) - len(known)
    if lacking:
        raise ServerError(
            f"the server sent null for {lacking} of {len(logprobs)} log probabilities, as vLLM does where they are NaN"
            "; nothing can be compared"
        )
    strange = next((value for value in known if not _is_fp32(value)), None)
    if strange is not None:
        raise ServerError(f"the server sent {strange:g} as a log probability, which is no number of fp32")
    echoed = max(prompt - 1, 0)
    return known[:echoed], known[echoed:]


def _is_fp32(value: float) -> bool:
    """Whether fp32 has such a number, rounded; infinities and NaN it has."""
    try:
        struct.pack("<f", value)
    except OverflowError:
        return False
    return True
