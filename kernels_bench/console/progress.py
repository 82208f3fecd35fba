"""Live progress on a terminal, plain lines elsewhere; both on standard error, so that results can be piped."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from profiles.text import inert

PLAIN_EVERY_S = 5.0


class Display(Protocol):
    """What the runner says while it works."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def phase(self, name: str, total: int) -> None:
        """A new phase of so many steps begins."""

    def step(self, label: str, steps: int = 1) -> None:
        """So many steps are done; ``label`` says which."""

    def note(self, text: str) -> None:
        """A line that stays."""


def display_for(console: Console) -> Display:
    """Bars where there is a terminal, lines where there is none."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


class LiveDisplay:
    """A bar for the phase at hand: case, how many remain, time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[label]}", markup=False),
            console=console,
        )
        self._task = self._progress.add_task("starting", total=None, label="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def phase(self, name: str, total: int) -> None:
        """A new bar below the finished ones."""
        self._progress.update(self._task, label="")
        self._progress.stop_task(self._task)
        self._task = self._progress.add_task(name, total=total, label="")

    def step(self, label: str, steps: int = 1) -> None:
        """Move the bar."""
        self._progress.update(self._task, advance=steps, label=inert(label))

    def note(self, text: str) -> None:
        """Above the bars."""
        self._progress.console.print(inert(text), markup=False, highlight=False)


class PlainDisplay:
    """A line at each phase and every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name, self._total, self._done = "", 0, 0
        self._started = self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def phase(self, name: str, total: int) -> None:
        """Say what begins."""
        self._name, self._total, self._done = name, total, 0
        self._started = self._said = time.monotonic()
        self.note(f"{name}: {total} to do")

    def step(self, label: str, steps: int = 1) -> None:
        """Say where we are, if the last line is some seconds old or the phase ends."""
        self._done += steps
        now = time.monotonic()
        if now - self._said >= PLAIN_EVERY_S or self._done >= self._total:
            self._said = now
            left = (now - self._started) / max(1, self._done) * (self._total - self._done)
            self.note(f"{self._name}: {self._done} of {self._total}, about {left:.0f} s left; {label}")

    def note(self, text: str) -> None:
        """One line."""
        self._console.print(inert(text), markup=False, highlight=False, soft_wrap=True)
