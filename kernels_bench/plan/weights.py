"""How much each M counts where one number is to stand for many."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from kernels_bench.console.errors import UsageError
from profiles.files import read_file

DECODING = 256
"""``decode`` counts batches of up to so many rows: sequences of which each computes a token a step."""
_MOST = 1 << 20

NAMED: Mapping[str, Callable[[int], float]] = {
    "even": lambda m: 1.0,
    "decode": lambda m: float(m <= DECODING),
    "prefill": lambda m: float(m >= DECODING),
}
"""Weights by name: all M alike, those up to `DECODING`, or those from it on."""


def weights_of(name: str, sizes: Collection[int]) -> dict[int, float]:
    """Weights of some M, which add up to 1.

    Args:
        name: one of `NAMED`, or a file with a JSON object of weights by M, such as ``{"1": 3, "16": 1}``.
        sizes: each M that was timed; other M of the file count for the nearest of them (by their ratio).

    Raises:
        UsageError: neither, or nothing of it was timed.
    """
    if name in NAMED:
        raw = {m: NAMED[name](m) for m in sizes}
    else:
        raw = dict.fromkeys(sizes, 0.0)
        for m, weight in _read(name).items():
            raw[min(sizes, key=lambda size: (abs(math.log(size / m)), size))] += weight
    total = sum(raw.values())
    if not total:
        raise UsageError(f"--weights {name}: counts none of M={', '.join(map(str, sorted(sizes)))}, which were timed")
    return {m: weight / total for m, weight in sorted(raw.items())}


def _read(name: str) -> dict[int, float]:
    expected = f'expected {", ".join(NAMED)}, or a JSON file of weights by M, such as {{"1": 3, "16": 1}}'
    try:
        found = json.loads(read_file(Path(name), _MOST))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "is no JSON"
        raise UsageError(f"--weights {name}: {reason}; {expected}") from error
    if not isinstance(found, dict) or not found:
        raise UsageError(f"--weights {name}: {expected}")
    for m, weight in found.items():
        fits = isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight < math.inf
        if not m.isdecimal() or not 1 <= int(m[:9]) <= _MOST or not fits:
            raise UsageError(f"--weights {name}: {m}: {weight} is no weight from 0 on of an M from 1 to {_MOST}")
    return {int(m): float(weight) for m, weight in found.items()}
