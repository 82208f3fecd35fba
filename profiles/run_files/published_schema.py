"""A JSON Schema that says of every field what it means, from the ``Attributes:`` of the records' own docstrings."""

from __future__ import annotations

import re
from typing import Any

_SECTION = re.compile(r"\n+Attributes:\n((?:(?: .*)?\n?)*)")
_ENTRY = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def described(schema: Any) -> Any:
    """A copy whose objects have their attributes' meanings beside the properties, and no more in their own description.

    Args:
        schema: any part of a JSON Schema as pydantic makes it.
    """
    if isinstance(schema, list):
        return [described(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: described(part) for key, part in schema.items()}
    text, properties = found.get("description"), found.get("properties")
    if isinstance(text, str) and isinstance(properties, dict):
        found["description"], meanings = _split(text)
        for name, meaning in meanings.items():
            if name in properties:
                properties[name]["description"] = meaning
    return found


def _split(docstring: str) -> tuple[str, dict[str, str]]:
    """A docstring without its attributes, and what it says of each."""
    section = _SECTION.search(docstring)
    if section is None:
        return docstring, {}
    rest = (docstring[: section.start()], docstring[section.end() :])
    meanings = {name: " ".join(text.split()) for name, text in _ENTRY.findall(section[1])}
    return "\n\n".join(part.strip() for part in rest if part.strip()), meanings
