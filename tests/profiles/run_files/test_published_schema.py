"""The published schemas say what every field means, and nothing of a docstring is lost on the way."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.run_files.published_schema import described
from support import ROOT

DOCS = ROOT / "docs"
WORDS = st.text(st.characters(categories=["Ll", "Lu", "Nd"], include_characters=" `,;()-"), min_size=1).map(str.strip)
TEXTS = WORDS.filter(bool)
NAMES = st.from_regex(r"[a-z][a-z_]{0,9}", fullmatch=True)


def properties(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield from ((f"{schema.get('title')}.{name}", part) for name, part in schema["properties"].items())
        for part in schema.values():
            yield from properties(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from properties(part)


@pytest.mark.parametrize("name", ["schema.json", "e2e-schema.json"])
def test_every_field_says_what_it_means(name: str) -> None:
    found = dict(properties(json.loads((DOCS / name).read_text())))
    assert len(found) > 40
    assert [field for field, part in found.items() if not part.get("description")] == []


@given(TEXTS, st.dictionaries(NAMES, st.lists(TEXTS, min_size=1, max_size=3), min_size=1), st.none() | TEXTS)
def test_what_a_docstring_says_of_an_attribute_is_found(
    summary: str, attributes: dict[str, list[str]], after: str | None
) -> None:
    entries = "".join(f"    {name}: " + "\n        ".join(lines) + "\n" for name, lines in attributes.items())
    text = f"{summary}\n\nAttributes:\n{entries}" + ("" if after is None else f"\n{after}")
    schema = {"description": text, "properties": {name: {"type": "string"} for name in [*attributes, "other"]}}
    found = described(schema)
    assert found["description"] == (summary if after is None else f"{summary}\n\n{after}")
    for name, lines in attributes.items():
        assert found["properties"][name]["description"] == " ".join(" ".join(lines).split())
    if "other" not in attributes:
        assert found["properties"]["other"] == {"type": "string"}


@given(TEXTS)
def test_a_docstring_without_attributes_stays_as_it_is(text: str) -> None:
    schema = {"description": text, "properties": {"a": {"type": "string"}}}
    assert described(schema) == schema
