"""An order of addition as a small picture: how parts are joined, and below that what one of these parts is.

A record keeps an order as a sentence (`kernels_bench.order.trees.description`), in which repeated structure is folded;
the picture is drawn from it, level by level, as far as a level is regular.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

MOST_LEVELS = 4
WIDTH, CHAIN, TREE, BETWEEN = 460, 40, 78, 16
"""Width of the picture, heights of its levels, and what lies between two of them."""
_BOX, _APART, _LEFT, _BOX_HEIGHT = 46, 22, 1, 22

_WAY = r"(?:, last first|, \d+ apart(?:, last first)?|, in no regular order)?"
_PAIRWISE = re.compile(r"(\d+) parts of (\d+) terms(?:, interleaved)?, added pairwise: each (.+)")
_CHAINED = re.compile(rf"(\d+) parts of (\d+) terms(?:, interleaved)?, added one after the other{_WAY}: each (.+)")
_PAIRED_TERMS = re.compile(r"(\d+) terms, added pairwise()")
_GROUPS = re.compile(
    rf"(\d+) groups of (\d+) terms(?:, every \w+|, scattered)?, each at once, one after the other{_WAY}"
)
_TERMS = re.compile(rf"(\d+) terms one after the other{_WAY}")
_AT_ONCE = re.compile(r"(\d+) terms(?:, every \w+|, scattered)? at once")


@dataclass(frozen=True)
class Level:
    """How equal parts are joined.

    Attributes:
        kind: one after the other, or as a tree of pairs.
        parts: for each run of equal parts how many there are, and of how many terms each is.
        more: whether further parts follow that the picture leaves out.
    """

    kind: Literal["chain", "tree"]
    parts: tuple[tuple[int, int], ...]
    more: bool = False


def levels_of(words: str) -> tuple[Level, ...]:
    """The levels of an order from the outermost inwards, as far as they are regular."""
    levels: list[Level] = []
    while len(levels) < MOST_LEVELS:
        if outer := _PAIRWISE.fullmatch(words):
            levels.append(Level("tree", ((int(outer[1]), int(outer[2])),)))
        elif outer := _CHAINED.fullmatch(words):
            levels.append(Level("chain", ((int(outer[1]), int(outer[2])),)))
        else:
            break
        words = outer[3]
    if len(levels) < MOST_LEVELS and (last := _steps(words)) is not None:
        levels.append(last)
    return tuple(levels)


def _steps(words: str) -> Level | None:
    """The innermost level; None where not even its first step is regular."""
    if paired := _PAIRED_TERMS.fullmatch(words):
        return Level("tree", ((int(paired[1]), 1),))
    parts: list[tuple[int, int]] = []
    steps = words.split(", then ")
    for step in steps:
        part = _step(step)
        if part is None:
            break
        parts.append(part)
    return Level("chain", tuple(parts), more=len(parts) < len(steps)) if parts else None


def _step(words: str) -> tuple[int, int] | None:
    if groups := _GROUPS.fullmatch(words):
        return int(groups[1]), int(groups[2])
    if terms := _TERMS.fullmatch(words):
        return int(terms[1]), 1
    if once := _AT_ONCE.fullmatch(words):
        return 1, int(once[1])
    return (1, 1) if words in ("a term", "one term") else None


def order_picture(words: str) -> Markup:
    """The picture; empty where the order is too irregular for one."""
    levels = levels_of(words)
    if not levels:
        return Markup("")
    heights = [TREE if level.kind == "tree" else CHAIN for level in levels]
    height = sum(heights) + BETWEEN * (len(levels) - 1)
    parts = [f'<svg class="order" viewBox="0 0 {WIDTH} {height}" aria-hidden="true">']
    top = 0
    for number, (level, tall) in enumerate(zip(levels, heights, strict=True)):
        parts += _tree(level, top) if level.kind == "tree" else _chain(level, top)
        if number + 1 < len(levels):
            bottom = top + tall
            parts.append(
                f'<path class="zoom" d="M{_LEFT} {bottom - 6}V{bottom + BETWEEN - 4}'
                f'M{_LEFT + _BOX} {bottom - 6}L{WIDTH - 4} {bottom + BETWEEN - 4}"/>'
            )
        top += tall + BETWEEN
    return Markup("".join([*parts, "</svg>"]))


def _chain(level: Level, top: int) -> Iterator[str]:
    """Boxes from left to right, each added to the sum of those before it."""
    x, middle = _LEFT, top + CHAIN - 6 - _BOX_HEIGHT // 2
    for number, (count, size) in enumerate(level.parts[:3]):
        if number:
            yield _arrow(x, middle)
            x += _APART
        shown = _shown(count)
        label = f"{count} × {_terms(size)}" if count > 1 else _terms(size)
        yield f'<text x="{x}" y="{top + 8}">{label}</text>'
        for box, text in enumerate(_faces(count, size, shown)):
            if box:
                yield _arrow(x, middle)
                x += _APART
            yield _box(x, middle - _BOX_HEIGHT // 2, text)
            x += _BOX
    if level.more or len(level.parts) > 3:
        yield _arrow(x, middle)
        yield f'<text x="{x + _APART + 4}" y="{middle + 4}">…</text>'


def _shown(count: int) -> int:
    return count if count <= 3 else 3


def _faces(count: int, size: int, shown: int) -> Sequence[str]:
    """What stands in the boxes: sizes, with dots where some are left out."""
    face = f"{size}"
    return [face] * count if count <= shown else [face, "…", face]


def _terms(size: int) -> str:
    return f"{size} term{'' if size == 1 else 's'}"


def _box(x: float, y: float, text: str) -> str:
    dots = ' class="dots"' if text == "…" else ""
    return (
        f'<rect{dots} x="{x:.0f}" y="{y:.0f}" width="{_BOX}" height="{_BOX_HEIGHT}" rx="3"/>'
        f'<text class="face" x="{x + _BOX / 2:.0f}" y="{y + 15:.0f}">{text}</text>'
    )


def _arrow(x: float, y: float) -> str:
    return f'<path class="join" d="M{x + 3:.0f} {y:.0f}h{_APART - 6}m-4-3l4 3l-4 3"/>'


def _tree(level: Level, top: int) -> Iterator[str]:
    """Boxes below, joined two by two."""
    count, size = level.parts[0]
    leaves = [f"{size}"] * count if count <= 4 else [f"{size}", f"{size}", "…", f"{size}"]
    y = top + TREE - 6 - _BOX_HEIGHT
    places = [_LEFT + number * (_BOX + _APART) for number in range(len(leaves))]
    yield from (_box(x, y, text) for x, text in zip(places, leaves, strict=True))
    centres, height = [x + _BOX / 2 for x in places], float(y)
    while len(centres) > 1:
        above = height - 16
        pairs = [(centres[n], centres[n + 1]) for n in range(0, len(centres) - 1, 2)]
        yield "".join(
            f'<path class="join" d="M{a:.0f} {height:.0f}V{above:.0f}H{b:.0f}V{height:.0f}"/>' for a, b in pairs
        )
        centres = [(a + b) / 2 for a, b in pairs] + centres[2 * len(pairs) :]
        height = above
    yield f'<text x="{places[-1] + _BOX + 12}" y="{y + 15}">{count} × {_terms(size)}, pairwise</text>'
