"""Foreign text, shown so that it can steer nothing: no terminal, no table, no spreadsheet."""

from __future__ import annotations


def inert(text: str) -> str:
    """Text on one line in which everything that is not printable is a blank.

    So are escape codes' first characters, line breaks, marks that turn the direction of writing, and lone surrogates,
    which no output can encode.
    """
    return "".join(character if character.isprintable() else " " for character in text)


def inert_cell(value: object) -> object:
    """A value as a cell of a table that a spreadsheet may open: no text of it is a formula.

    Spreadsheets evaluate a text that begins with one of ``= + - @``, or with a blank and then one of them; an
    apostrophe before it has them show it as it is.
    """
    if not isinstance(value, str):
        return value
    shown = inert(value)
    return f"'{shown}" if shown.lstrip().startswith(("=", "+", "-", "@")) else shown
