"""Where commands print."""

from __future__ import annotations

import os

from rich.console import Console

UNBROKEN = 100_000
"""Columns where nobody sees an edge: no line is as long."""


def console(stderr: bool = False) -> Console:
    """Standard output, or standard error, as wide as its terminal; where there is none lines are not broken.

    ``COLUMNS`` says otherwise, as it does on a terminal.
    """
    found = Console(stderr=stderr)
    # Not `is_terminal`, which FORCE_COLOR makes true of a CI job's log too.
    if not found.file.isatty() and not os.environ.get("COLUMNS", "").isdigit():
        found.width = UNBROKEN
    return found
