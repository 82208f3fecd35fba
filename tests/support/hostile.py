"""Hostile input: records, traces and reports that were altered somewhere, as hypothesis chooses."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
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


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, as keys and numbers."""
    if path:
        yield path
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, key))


@st.composite
def altered(draw: st.DrawFn, value: Any, most: int = 3) -> Any:
    """A copy of a JSON value with some places replaced, removed or doubled."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, most))):
        known = list(places(value))
        if not known:
            return value
        *way, last = draw(st.sampled_from(known))
        holder = value
        for step in way:
            holder = holder[step]
        how = draw(st.sampled_from(("replace", "replace", "replace", "remove", "double", "deepen")))
        if how == "remove":
            del holder[last]
        elif how == "double" and isinstance(holder, list):
            holder.insert(last, copy.deepcopy(holder[last]))
        elif how == "deepen":
            holder[last] = {"deeper": [holder[last]]}
        else:
            holder[last] = draw(st.sampled_from(VALUES))
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
