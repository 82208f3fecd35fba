"""Whatever a server says is a typed record, or one line that can be shown."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2e.engine.error_causes import ServerError, root_cause
from e2e.engine.online.replies import Event, Models, Release, Reply, Tokenized, parted, read

KINDS = st.sampled_from([Event, Models, Release, Tokenized])
NAMES = st.sampled_from(
    ["data", "id", "root", "max_model_len", "version", "tokens", "choices", "token_ids", "logprobs"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def taken(kind: type[Reply], said: bytes) -> None:
    try:
        found = read(kind, said, "/v1/models")
    except ServerError as error:
        told = root_cause(error, "")
        assert told.isprintable()
        assert told.startswith("/v1/models answers what no vLLM does: ")
    else:
        assert isinstance(found, kind)


@given(KINDS, JSON | st.dictionaries(NAMES, JSON))
def test_any_json_is_a_record_or_one_line(kind: type[Reply], said: Any) -> None:
    taken(kind, json.dumps(said).encode())


@given(KINDS, st.binary(max_size=64))
def test_any_bytes_are_a_record_or_one_line(kind: type[Reply], said: bytes) -> None:
    taken(kind, said)


@pytest.mark.long
@settings(max_examples=10_000)
@given(KINDS, JSON | st.dictionaries(NAMES, JSON), st.binary(max_size=64))
def test_much_that_is_said_is_a_record_or_one_line(kind: type[Reply], said: Any, raw: bytes) -> None:
    text = json.dumps(said).encode()
    for whole in (text, raw, text[: len(raw)] + raw):
        taken(kind, whole)


@pytest.mark.parametrize("said", [b"[" * 200_000, b'{"choices":' * 100_000, b"9" * 6000, b'{"version": "\xff"}'])
@pytest.mark.parametrize("kind", [Event, Release])
def test_what_is_deep_or_long_is_one_line(kind: type[Reply], said: bytes) -> None:
    taken(kind, said)


@given(st.lists(st.none() | st.floats(), max_size=6), st.integers(0, 3), st.integers(1, 4))
def test_log_probabilities_stand_at_their_own_tokens_or_nowhere(
    came: list[float | None], prompt: int, answer: int
) -> None:
    """A prompt's first token has none, whatever came for it."""
    try:
        echoed, answered = parted(came, prompt, answer)
    except ServerError:
        own = came[1:] if prompt else came
        huge = [value for value in own if value is not None and math.isfinite(value) and abs(value) > 3.4e38]
        assert len(came) != prompt + answer or None in own or huge
    else:
        assert [*echoed] == [*came[1:prompt]] or any(map(math.isnan, echoed))
        assert [*answered] == [*came[prompt:]] or any(map(math.isnan, answered))
        assert (len(echoed), len(answered)) == (max(prompt - 1, 0), answer)
