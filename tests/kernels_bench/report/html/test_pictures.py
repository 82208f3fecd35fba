"""Plots, strips and orders of addition: what stands where."""

from __future__ import annotations

import re
from itertools import pairwise as neighbours
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernels_bench.order.trees.description import sentence
from kernels_bench.records.results import RelationResult
from kernels_bench.report.html.order_picture import Level, levels_of, order_pictures
from kernels_bench.report.html.plot import HEIGHT, LINE_HEIGHT, WIDTH, Line, Point, plot
from kernels_bench.report.html.strips import strips_of
from support.known_orders import Nested, built, fused, nests, one_after_the_other, pairwise, split, strided
from support.records import broken, case, ended, held, verified


def line(name: str, look: int, *values: float, dashed: bool = False) -> Line:
    points = tuple(Point(m=4**number, value=v, low=v * 0.9, high=v * 1.1) for number, v in enumerate(values))
    return Line(name, look, dashed, points)


class TestPlot:
    def test_a_line_goes_through_its_points_and_the_spread_around_them(self) -> None:
        svg = ElementTree.fromstring(plot("told", [line("torch", 0, 10.0, 100.0, 1000.0)]))
        (path,) = [one for one in svg.iter("path") if one.get("class") == "line"]
        places = [tuple(map(float, place.split())) for place in (path.get("d") or "")[1:].split("L")]
        steps = [(b[0] - a[0], b[1] - a[1]) for a, b in neighbours(places)]
        # Both axes are logarithmic: equal factors are equal distances.
        assert steps[0] == pytest.approx(steps[1], abs=0.21)
        assert steps[0][0] > 0 > steps[0][1]
        (spread,) = [one.get("d") or "" for one in svg.iter("path") if one.get("class") == "spread"]
        bars = [tuple(map(float, bar)) for bar in re.findall(r"M([\d.]+) ([\d.]+)V([\d.]+)", spread)]
        assert [bar[0] for bar in bars] == [place[0] for place in places]
        assert all(low > place[1] > high for (_, low, high), place in zip(bars, places, strict=True))

    @given(st.lists(st.lists(st.floats(1e-3, 1e7), min_size=1, max_size=5), min_size=1, max_size=10))
    @example([[3e6]] * 8 + [[0.125]])
    @example([[0.125]] * 8 + [[3e6]])
    @example([[1.0]] * 17)
    def test_nothing_leaves_the_picture_and_no_name_covers_another(self, values: list[list[float]]) -> None:
        lines = [line(f"arm-{number}", number, *mine, dashed=number % 2 == 1) for number, mine in enumerate(values)]
        svg = ElementTree.fromstring(plot("told", lines))
        texts = [(float(one.get("x") or 0), float(one.get("y") or 0)) for one in svg.iter("text")]
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in texts)
        names = sorted(float(one.get("y") or 0) for one in svg.iter("text") if (one.text or "").startswith("arm-"))
        assert len(names) == len(lines)
        assert all(b - a >= LINE_HEIGHT - 0.11 for a, b in neighbours(names))
        for one in svg.iter("path"):
            if one.get("class") in ("line", "grid"):
                numbers = [float(number) for number in re.findall(r"-?[\d.]+", one.get("d") or "")]
                assert all(0 <= number <= WIDTH for number in numbers)

    def test_arms_differ_by_their_marks_too(self) -> None:
        svg = ElementTree.fromstring(plot("told", [line("a", 0, 1.0), line("b", 1, 1.0)]))
        drawn = [group for group in svg.iter("g") if re.match(r"a\d+ l\d+$", group.get("class") or "")]
        marks = [group.findall("path")[-1].get("d") for group in drawn]
        a, b = [mark for mark in marks if mark]
        assert a.count("a") == 2  # arcs
        assert b.count("a") == 0


class TestStrips:
    def test_where_nothing_tells_which_m_were_tried_that_is_not_claimed(self) -> None:
        """Records of schema 2 have no sizes."""
        relation = RelationResult(relation="batch_size", status="held", companies=49)
        strips = strips_of([verified(case("samebits"), relation)])
        assert strips is not None
        assert [(part.look, part.width) for part in strips.rows[0].segments] == [("quiet", 100.0)]
        assert strips.rows[0].words == "the same in all 49 batches"

    def test_a_relation_that_was_not_examined_has_an_empty_strip(self) -> None:
        relation = RelationResult(relation="batch_size", status="failed", reason="no memory")
        strips = strips_of([verified(case("samebits"), relation)])
        assert strips is not None
        assert (strips.rows[0].segments, strips.rows[0].words) == ((), "failed: no memory")

    def test_another_relation_has_a_strip_where_it_broke(self) -> None:
        relations = (broken(8, "neighbour_content"), held("batch_size"))
        strips = strips_of([verified(case("torch"), *relations, digests={1: "a", 8: "b"})])
        assert strips is not None
        assert [(row.label, row.words) for row in strips.rows] == [
            ("", "the same in all 21 batches"),
            ("neighbour_content", "differs at M=8"),
        ]
        assert [(part.look, part.start) for part in strips.rows[1].segments] == [("quiet", 0.0), ("differs", 50.0)]

    def test_what_was_not_verified_has_none(self) -> None:
        assert strips_of([ended(case("torch"), "failed")]) is None

    @given(st.sets(st.integers(1, 5000), min_size=1, max_size=70), st.data())
    def test_segments_cover_exactly_what_was_tried(self, sizes: set[int], data: st.DataObject) -> None:
        tried = data.draw(st.sets(st.sampled_from(sorted(sizes)), min_size=1))
        differs = data.draw(st.sets(st.sampled_from(sorted(tried))))
        relation = RelationResult(
            relation="batch_size",
            status="broken" if differs else "held",
            sizes=tuple(sorted(tried)),
            broken=tuple(f"first:{m}" for m in sorted(differs)),
        )
        strips = strips_of([verified(case("torch"), relation, digests=dict.fromkeys(sizes, "a"))])
        assert strips is not None
        widths = dict.fromkeys(("same", "differs"), 0.0)
        for part in strips.rows[0].segments:
            widths[part.look] += part.width
        cell = 100 / len(sizes)
        assert widths["differs"] == pytest.approx(len(differs) * cell, abs=0.5)
        assert widths["same"] == pytest.approx(len(tried - differs) * cell, abs=0.5)
        places = [place for place, _ in strips.marks]
        assert all(b - a >= 7.9 for a, b in neighbours(places))


class TestOrder:
    @pytest.mark.parametrize(
        ("nested", "levels"),
        [
            (one_after_the_other(range(9)), [Level("chain", ((9, 1),))]),
            (pairwise(range(16)), [Level("tree", ((16, 1),))]),
            (fused(range(39), 16), [Level("chain", ((2, 16), (1, 7)))]),
            (
                split(64, 4, lambda part: fused(part, 8), pairwise),
                [Level("tree", ((4, 16),)), Level("chain", ((2, 8),))],
            ),
            (strided(64, 4), [Level("tree", ((4, 16),)), Level("chain", ((16, 1),))]),
            # What comes after parts belongs beside them, and not into one of them.
            (
                one_after_the_other(
                    [one_after_the_other(range(8)), one_after_the_other(range(8, 16)), pairwise([16, 17])]
                ),
                [Level("chain", ((2, 8),), more=True), Level("chain", ((8, 1),))],
            ),
        ],
    )
    def test_it_is_drawn_level_by_level(self, nested: Nested, levels: list[Level]) -> None:
        tree = built(nested)
        assert list(levels_of(sentence(tree), tree.terms)) == levels

    @given(nests())
    def test_no_picture_says_what_is_not_so(self, nested: Nested) -> None:
        tree = built(nested)
        whole = tree.terms
        for level in levels_of(sentence(tree), tree.terms):
            held_terms = sum(count * size for count, size in level.parts)
            assert held_terms < whole if level.more else held_terms == whole
            whole = level.parts[0][1]

    def test_equal_orders_are_drawn_once(self) -> None:
        pictures = order_pictures([("9 terms one after the other", 9), ("16 terms, added pairwise", 16)] * 2)
        assert [one.anchor for one in pictures.values()] == ["order-1", "order-2"]
        assert all(ElementTree.fromstring(f"<svg>{one.svg}</svg>").findall("rect") for one in pictures.values())

    def test_an_order_in_other_words_has_no_picture(self) -> None:
        assert order_pictures([("<b>anything else</b>", 5)]) == {}
