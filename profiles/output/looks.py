"""What tells kernels apart on the page: a colour, a pattern and a letter, no two alike within a map."""

from __future__ import annotations

import colorsys
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import TypeVar

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
"""Okabe and Ito's colours, which most colour-blind readers tell apart."""

PATTERNS = ("", "/", "x", "-", "\\", "|", "+", ".")
"""Plotly's hatchings; plain first."""

# I and O would be taken for a stroke and a nought.
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"

Name = TypeVar("Name", bound=Hashable)

# Hues a golden section of the circle apart stay as far from each other as they can, however many there are.
_GOLDEN = (5**0.5 - 1) / 2
# Of eight such hues, neighbours are three or five numbers apart: odd numbers are darker, so that these differ in both.
_LIGHTNESS = (0.68, 0.46)


@dataclass(frozen=True)
class Look:
    """How one kernel is drawn wherever it occurs.

    Attributes:
        number: counts looks from 0.
        colour: as ``#0072B2``.
        pattern: one of `PATTERNS`.
    """

    number: int
    colour: str
    pattern: str

    @property
    def letter(self) -> str:
        """``A`` to ``Z`` without I and O, then ``A1``."""
        lap, place = divmod(self.number, len(_LETTERS))
        return f"{_LETTERS[place]}{lap or ''}"

    @property
    def ink(self) -> str:
        """Black or white, whichever reads better on the colour."""
        red, green, blue = (int(self.colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
        return "#ffffff" if luminance < 0.18 else "#111111"


def _look(number: int, taken: set[str]) -> Look:
    """The look of a number: eight plain colours, then eight hatched ones a lap, none of them in ``taken``."""
    lap, place = divmod(number, len(COLOURS))
    pattern = PATTERNS[0] if lap == 0 else PATTERNS[1 + (lap - 1) % (len(PATTERNS) - 1)]
    # Among hundreds, two hues may round to one colour: a paler one is taken then.
    tries = (_colour(number, 0.55 * (1 - step * _GOLDEN % 1)) for step in count())
    colour = COLOURS[place] if lap == 0 else next(one for one in tries if one not in taken)
    return Look(number, colour, pattern)


def _colour(number: int, saturation: float) -> str:
    parts = colorsys.hls_to_rgb(number * _GOLDEN % 1, _LIGHTNESS[number % 2], saturation)
    return "#" + "".join(f"{round(255 * part):02X}" for part in parts)


def _endless() -> Iterator[Look]:
    """Looks, no two of which share a colour."""
    taken: set[str] = set()
    for number in count():
        look = _look(number, taken)
        taken.add(look.colour)
        yield look


def looks(maps: Iterable[Iterable[Name]]) -> dict[Name, Look]:
    """A look for every name: one and the same in all maps, and no other name's within a map.

    Args:
        maps: the names of each; names that never meet in a map may look alike, so that most maps stay plain.
    """
    meets: dict[Name, set[Name]] = {}
    for names in map(list, maps):
        for name in names:
            meets.setdefault(name, set()).update(names)
    known: list[Look] = []
    endless = _endless()
    chosen: dict[Name, Look] = {}
    for name, others in meets.items():
        near = {chosen[other].number for other in others if other in chosen}
        number = next(number for number in count() if number not in near)
        known.extend(islice(endless, max(0, number + 1 - len(known))))
        chosen[name] = known[number]
    return chosen
