"""What tells kernels apart on the page."""

from __future__ import annotations

import math
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from profiles.output.looks import PATTERNS, looks

APART = 0.09
"""In OKLab, where 0.02 is just seen."""

maps = st.lists(st.lists(st.integers(0, 60), max_size=40), max_size=6)


def linear(part: int) -> float:
    share = part / 255
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4


def oklab(colour: str) -> tuple[float, ...]:
    """As Björn Ottosson defines it: distances there are those that eyes see."""
    red, green, blue = (linear(int(colour[at : at + 2], 16)) for at in (1, 3, 5))
    to_cones = ((0.41222, 0.53633, 0.05145), (0.2119, 0.6807, 0.1074), (0.0883, 0.28172, 0.62998))
    from_cones = ((0.21045, 0.79362, -0.00407), (1.978, -2.42859, 0.45059), (0.0259, 0.78277, -0.80868))
    cones = [(a * red + b * green + c * blue) ** (1 / 3) for a, b, c in to_cones]
    return tuple(sum(a * b for a, b in zip(row, cones, strict=True)) for row in from_cones)


@given(st.integers(0, 400))
def test_no_two_kernels_of_a_map_share_a_colour(count: int) -> None:
    found = looks([range(count)])
    assert len({one.colour for one in found.values()}) == count
    assert len({one.letter for one in found.values()}) == count


@given(st.integers(2, 8 * len(PATTERNS)))
def test_kernels_of_one_pattern_have_colours_that_eyes_tell_apart(count: int) -> None:
    for one, other in combinations(looks([range(count)]).values(), 2):
        if one.pattern == other.pattern:
            assert math.dist(oklab(one.colour), oklab(other.colour)) > APART


@given(maps)
def test_a_kernel_looks_the_same_in_all_maps_and_unlike_its_neighbours(maps: list[list[int]]) -> None:
    found = looks(maps)
    assert found.keys() == {name for names in maps for name in names}
    for names in maps:
        shown = {found[name] for name in names}
        assert len({one.colour for one in shown}) == len({one.letter for one in shown}) == len(set(names))


@given(maps)
def test_patterns_wait_until_plain_colours_are_used_up(maps: list[list[int]]) -> None:
    others = {name: {other for names in maps if name in names for other in names} for names in maps for name in names}
    assert all(not one.pattern for name, one in looks(maps).items() if len(others[name]) <= 8)
