"""What `locate` found, as a page: layers downwards, steps across, and how the difference grows."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.locate.records import Cell, Located
from e2e.report.located import exit_status, lines, outcome
from kernels_bench.report.html.frame import render
from profiles.invocation import called

_MOST_STEPS = 24


@dataclass(frozen=True)
class CellView:
    """One cell: its text, how dark it is from 0 to 1, and whether a cause lies there."""

    text: str
    shade: float
    first: bool


@dataclass(frozen=True)
class RowView:
    """One layer."""

    name: str
    cells: tuple[CellView, ...]


def page(found: Located, directory: str) -> str:
    """The page.

    Args:
        found: what was.
        directory: where the guilty call is.
    """
    shown = range(min(len(found.steps), _MOST_STEPS))
    return render(
        "located.html",
        package="e2e.report",
        title=f"samebits: {outcome(found)}",
        device=found.options.model,
        outcome=f"{outcome(found)} (exit status {exit_status(found)}).",
        good=exit_status(found) == 0,
        provenance=found.provenance,
        told=[line.strip() for line in list(lines(found, directory))[1:]],
        again=shlex.join([*called("e2e"), "replay", str(Path(directory) / found.call)]) if found.call else "",
        steps=[f"{found.steps[at].kind} {at}: {found.steps[at].tokens} tokens" for at in shown],
        rows=tuple(_rows(found, shown)),
        causes=found.causes or (),
        against=found.against is not None,
    )


def _rows(found: Located, shown: range) -> Iterator[RowView]:
    cells = {(one.path, one.step): one for one in found.cells}
    causes = {(one.path, one.step) for one in (*(found.causes or ()), *([found.first] if found.first else []))}
    for path in dict.fromkeys(one.path for one in found.cells):
        yield RowView(
            path,
            tuple(
                _cell(cells.get((path, step)), any(at == step and _within(of, path) for of, at in causes))
                for step in shown
            ),
        )


def _within(place: str, path: str) -> bool:
    return place == path or place.startswith(path + ".")


def _cell(cell: Cell | None, first: bool) -> CellView:
    if cell is None:
        return CellView("–", 0.0, first)
    if not cell.rows:
        return CellView("0", 0.0, first)
    share = "" if cell.elements is None else f" / {100 * cell.elements:.2g}"
    far = "" if cell.distance is None else f", {100 * cell.distance:.2g} %"
    return CellView(f"{100 * cell.rows:.3g}{share} %{far}", round(0.25 + 0.75 * (cell.elements or cell.rows), 2), first)
