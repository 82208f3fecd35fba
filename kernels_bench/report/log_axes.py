"""Where numbers stand on a logarithmic axis, and how names beside its lines are kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

MOST_TICKS = 13
"""Above so many of them the steps between decades are left out, which would stand too close."""


class EvenAxis:
    """One axis from one number to another, on which equal steps are equally wide, such as from run to run.

    Attributes:
        low: the number at ``start``.
        high: that at ``end``; where it is the same as ``low`` both stand in the middle.
    """

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = low, high
        self._start, self._end = start, end

    def __call__(self, number: float) -> float:
        """The place of a number in pixels."""
        first, here, last = map(self._scaled, (self.low, number, self.high))
        share = (here - first) / (last - first) if last > first else 0.5
        return self._start + share * (self._end - self._start)

    def _scaled(self, number: float) -> float:
        return number


class LogAxis(EvenAxis):
    """The same, on which equal factors are equally wide."""

    def _scaled(self, number: float) -> float:
        return log10(number)


def ticks(least: float, most: float) -> list[float]:
    """Round numbers, two or more, the first no more than the least and the last no less than the most."""
    fine = _ticks(least, most, (1, 2, 5))
    return fine if len(fine) <= MOST_TICKS else _ticks(least, most, (1,))


def _ticks(least: float, most: float, steps: Sequence[int]) -> list[float]:
    # One decade more than is meant: the logarithm of a number just below a power of ten is rounded up to it.
    exponents = range(floor(log10(least)) - 1, floor(log10(most)) + 2)
    every = [step * 10.0**exponent for exponent in exponents for step in steps]
    first = max(number for number, tick in enumerate(every) if tick <= least)
    last = min(number for number, tick in enumerate(every) if tick >= most)
    return every[first : max(last, first + 1) + 1]


def apart(places: Sequence[float], height: float) -> list[float]:
    """Ascending places with at least a line's height between two, each cluster around its middle."""
    clusters: list[list[float]] = []
    for place in places:
        clusters.append([place])
        while len(clusters) > 1 and _first(clusters[-1], height) - _last(clusters[-2], height) < height:
            last = clusters.pop()
            clusters[-1] += last
    return [_first(cluster, height) + height * number for cluster in clusters for number in range(len(cluster))]


def within(places: Sequence[float], height: float, low: float, high: float) -> list[float]:
    """Places that are `apart`, moved between two bounds as far as they have to be; there must be room for all."""
    found: list[float] = []
    for place in places:
        found.append(max(place, found[-1] + height if found else low))
    for at in reversed(range(len(found))):
        found[at] = min(found[at], found[at + 1] - height if at + 1 < len(found) else high)
    return found


def _first(cluster: Sequence[float], height: float) -> float:
    return sum(cluster) / len(cluster) - height * (len(cluster) - 1) / 2


def _last(cluster: Sequence[float], height: float) -> float:
    return sum(cluster) / len(cluster) + height * (len(cluster) - 1) / 2
