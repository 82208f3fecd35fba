"""Hostile input: records, traces and reports that were altered somewhere, as hypothesis chooses."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

LONG_NUMBER = 10**4200
"""Of as many digits as Python reads, at most; JSON's readers take fewer or make infinity of it."""

VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2, 3, 63, 1 << 31, 1 << 63, -(1 << 63), 10**30, LONG_NUMBER),
    *(0.5, -0.0, 1e308, -1e308, 1e-320, float("inf"), float("-inf"), float("nan"), "NaN", "Infinity"),
    *("", " ", "x", "first", "first:", "first:x", "first:0", "first:-5", "nan:16:1", "huge:16", "a:1:2:3"),
    *("cuda", "cpu", "tpu", "held", "broken", "measured", "failed", "skipped"),
    *("\x1b[2J\x1b[31mred", "\x9b31m", "\u202eturned", "a\nb\r\nc", "\x00", "|", "`", "=1+1", "@cmd"),
    *("[red]x[/red]", "[/]", "ä" * 300, "a" * 300, "../../x", "\ud800"),
    *([], {}, [[]], [0], ["first:3"], {"a": 1}, [None], {"": []}),
)


@st.composite
def place_in(draw: st.DrawFn, value: Any) -> tuple[Any, Any]:
    """Some place in a JSON value: what holds it, and its key or number there; the deeper, the rarer."""
    while True:
        key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        inner = value[key]
        if not isinstance(inner, (dict, list)) or not inner or draw(st.integers(0, 2)) == 2:
            return value, key
        value = inner


@st.composite
def altered(draw: st.DrawFn, value: Any, most: int = 3) -> Any:
    """A copy of a JSON value with some places replaced, removed or doubled."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, most))):
        if not value:
            return value
        holder, last = draw(place_in(value))
        how = draw(st.sampled_from(("replace", "replace", "replace", "remove", "double", "deepen")))
        if how == "remove":
            del holder[last]
        elif how == "double" and isinstance(holder, list):
            holder.insert(last, copy.deepcopy(holder[last]))
        elif how == "deepen":
            holder[last] = {"deeper": [holder[last]]}
        else:
            # Of the same type mostly: what is of another is refused at the border, and tries nothing behind it.
            alike = [one for one in VALUES if type(one) is type(holder[last])]
            holder[last] = copy.deepcopy(draw(st.sampled_from(draw(st.sampled_from((VALUES, alike, alike))) or VALUES)))
    return value


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """A copy of some bytes, a few of them altered, removed or put in."""
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.sampled_from((0, 1, 1, 2, 64, 4096)))
        put = draw(
            st.one_of(st.binary(max_size=8), st.sampled_from((b"\n", b"{}\n", b"[" * 5000, b"9" * 5000, b"\xff" * 100)))
        )
        data = data[:place] + put + data[place + length :]
    return data


def as_json(value: Any) -> bytes:
    """A JSON text, also of what is none: infinities, numbers of thousands of digits, lone surrogates."""
    return json.dumps(value).encode()


def as_lines(records: Sequence[Any]) -> list[bytes]:
    return [as_json(record) for record in records]


def steers(text: str) -> bool:
    """Whether a text holds anything that a terminal does not just show."""
    return any(not character.isprintable() and character != "\n" for character in text)
