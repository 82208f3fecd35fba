"""What the user asked for."""

from __future__ import annotations

from typing import Literal

from profiles.run_files.record import Record


class Selection(Record):
    """What the user asked for; None leaves the choice to samebits.

    Attributes:
        op: operators.
        arm: arms.
        shapes: names or sizes, as typed.
        batch: values of M to time, which are verified beside all others.
        length: tokens of the sequences to time, which are verified beside all others.
        dtype: precisions.
        relation: relations.
        partial: that relations are left out is the user's will, and no reason to end with another status than 0.
        only: what alone is to be done; None for both.
        quick: a short run.
        seed: of all data.
        plugin: paths of users' arms.
        timeout_s: longest that one request to a worker may take.
        budget_s: seconds, about, for a search among arms' candidates, of which the fastest alone are verified and
            timed; None for no search.
    """

    op: tuple[str, ...] | None = None
    arm: tuple[str, ...] | None = None
    shapes: tuple[str, ...] | None = None
    batch: tuple[int, ...] | None = None
    length: tuple[int, ...] | None = None
    dtype: tuple[str, ...] | None = None
    relation: tuple[str, ...] | None = None
    partial: bool = False
    only: Literal["verify", "time"] | None = None
    quick: bool = False
    seed: int = 0
    plugin: tuple[str, ...] = ()
    timeout_s: float = 60.0
    budget_s: float | None = None
