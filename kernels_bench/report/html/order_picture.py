"""An order of addition as a small picture: how parts are joined, and below that what one of these parts is.

A record keeps an order as a sentence (`kernels_bench.order.trees.description`), in which repeated structure is folded;
the picture is drawn from it, level by level, as far as a level is regular.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

MOST_LEVELS = 4
WIDTH, BETWEEN = 460, 16
"""Width of the picture, and what lies between two levels."""
_BOX, _APART, _LEFT, _BOX_HEIGHT, _LABEL, _JOIN = 46, 22, 1, 22, 14, 14
_MOST_BOXES, _MOST_LEAVES, _MOST_RUNS = 3, 4, 2

_WAY = r"(?:, last first|, \d+ apart(?:, last first)?|, in no regular order)?"
_PAIRWISE = re.compile(r"(\d+) parts of (\d+) terms(?:, interleaved)?, added pairwise: each (.+)")
_CHAINED = re.compile(rf"(\d+) parts of (\d+) terms(?:, interleaved)?, added one after the other{_WAY}: each (.+)")
_PAIRED_TERMS = re.compile(r"(\d+) terms, added pairwise")
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


def levels_of(words: str, terms: int) -> tuple[Level, ...]:
    """The levels of an order from the outermost inwards, as far as they are regular.

    Args:
        words: its sentence. What follows a part in it may belong to any level around that part: to which, sizes tell.
        terms: how many are added.
    """
    levels: list[Level] = []
    whole = terms
    while len(levels) < MOST_LEVELS:
        kind: Literal["chain", "tree"]
        if outer := _PAIRWISE.fullmatch(words):
            kind = "tree"
        elif outer := _CHAINED.fullmatch(words):
            kind = "chain"
        else:
            break
        count, size = int(outer[1]), int(outer[2])
        levels.append(Level(kind, ((count, size),), more=count * size < whole))
        words, whole = outer[3], size
    if len(levels) < MOST_LEVELS and (last := _steps(words, whole)) is not None:
        levels.append(last)
    return tuple(levels)


def _steps(words: str, whole: int) -> Level | None:
    """The innermost level; None where not even its first step is regular."""
    if paired := _PAIRED_TERMS.match(words):
        count = int(paired[1])
        return Level("tree", ((count, 1),), more=count < whole)
    parts: list[tuple[int, int]] = []
    held = 0
    for step in words.split(", then "):
        part = _step(step)
        if part is None or held >= whole:
            break
        parts.append(part)
        held += part[0] * part[1]
    return Level("chain", tuple(parts), more=held < whole) if parts else None


def _step(words: str) -> tuple[int, int] | None:
    if groups := _GROUPS.fullmatch(words):
        return int(groups[1]), int(groups[2])
    if terms := _TERMS.fullmatch(words):
        return int(terms[1]), 1
    if once := _AT_ONCE.fullmatch(words):
        return 1, int(once[1])
    return (1, 1) if words in ("a term", "one term") else None


@dataclass(frozen=True)
class OrderPicture:
    """A picture that a page holds once and shows wherever an order is this one.

    Attributes:
        anchor: its name in the page.
        height: of a picture of width `WIDTH`.
        svg: what is drawn.
    """

    anchor: str
    height: int
    svg: Markup


def order_pictures(orders: Iterable[tuple[str, int]]) -> dict[tuple[str, int], OrderPicture]:
    """For each order's words and terms its picture; none of those that are too irregular for one."""
    pictures: dict[tuple[str, int], OrderPicture] = {}
    for words, terms in dict.fromkeys(orders):
        if levels := levels_of(words, terms):
            pictures[words, terms] = _picture(f"order-{len(pictures) + 1}", levels)
    return pictures


def _picture(anchor: str, levels: Sequence[Level]) -> OrderPicture:
    """Levels below each other, each the inside of the first box of the one above."""
    heights = [_height(level) for level in levels]
    height = sum(heights) + BETWEEN * (len(levels) - 1)
    parts: list[str] = []
    top = 0
    for number, (level, tall) in enumerate(zip(levels, heights, strict=True)):
        if number:  # what follows is the inside of the first box above
            bottom, corner = top - BETWEEN, _LEFT + _BOX
            lines = f"M{_LEFT} {bottom}V{top}M{corner} {bottom}L{_extent(level)} {top}"
            parts.append(f'<path class="zoom" d="{lines}"/>')
        parts += _tree(level, top) if level.kind == "tree" else _chain(level, top)
        top += tall + BETWEEN
    return OrderPicture(anchor, height + 1, Markup("".join(parts)))


def _extent(level: Level) -> int:
    """Where a level's boxes end on the right."""
    if level.kind == "tree":
        boxes = _leaves(level)
    else:
        boxes = sum(min(count, _MOST_BOXES) for count, _ in level.parts[:_MOST_RUNS])
    return _LEFT + boxes * (_BOX + _APART) - _APART


def _height(level: Level) -> int:
    above = _JOIN * _rounds(_leaves(level)) + 1 if level.kind == "tree" else _LABEL
    return above + _BOX_HEIGHT


def _leaves(level: Level) -> int:
    return min(level.parts[0][0], _MOST_LEAVES)


def _rounds(leaves: int) -> int:
    """How often one has to join leaves two by two."""
    return (leaves - 1).bit_length()


def _chain(level: Level, top: int) -> Iterator[str]:
    """Boxes from left to right, each added to the sum of those before it."""
    x, y = _LEFT, top + _LABEL
    middle = y + _BOX_HEIGHT // 2
    for number, (count, size) in enumerate(level.parts[:_MOST_RUNS]):
        if number:
            yield _arrow(x, middle)
            x += _APART
        label = _counted(count, size)
        yield f'<text x="{x}" y="{top + 10}">{label}</text>'
        for box, text in enumerate(_faces(count, size, _MOST_BOXES)):
            if box:
                yield _arrow(x, middle)
                x += _APART
            yield _box(x, y, text)
            x += _BOX
    if level.more or len(level.parts) > _MOST_RUNS:
        yield _arrow(x, middle)
        yield f'<text x="{x + _APART + 4}" y="{middle + 4}">…</text>'


def _faces(count: int, size: int, most: int) -> Sequence[str]:
    """What stands in the boxes: sizes, with dots where some are left out."""
    return [str(size)] * count if count <= most else [*[str(size)] * (most - 2), "…", str(size)]


def _counted(count: int, size: int) -> str:
    """So many parts of so many terms."""
    terms = f"{size if size > 1 else count} term{'' if count == size == 1 else 's'}"
    return f"{count} × {terms}" if count > 1 and size > 1 else terms


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
    faces = _faces(count, size, _MOST_LEAVES)
    y = top + _JOIN * _rounds(len(faces)) + 1
    places = [_LEFT + number * (_BOX + _APART) for number in range(len(faces))]
    yield from (_box(x, y, text) for x, text in zip(places, faces, strict=True))
    centres, height = [x + _BOX / 2 for x in places], y
    while len(centres) > 1:
        pairs = list(zip(centres[::2], centres[1::2], strict=False))
        joins = "".join(f"M{a:.0f} {height}V{height - _JOIN}H{b:.0f}V{height}" for a, b in pairs)
        yield f'<path class="join" d="{joins}"/>'
        centres = [(a + b) / 2 for a, b in pairs] + centres[2 * len(pairs) :]
        height -= _JOIN
    more = ", then …" if level.more else ""
    yield f'<text x="{places[-1] + _BOX + 12}" y="{y + 15}">{_counted(count, size)}, pairwise{more}</text>'
