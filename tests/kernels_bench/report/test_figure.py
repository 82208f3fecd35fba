"""A case as a picture: every arm's line and name, what became of its bits, readable in light and in dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernels_bench.records.results import AnyRecord
from kernels_bench.report.figure import LINE_HEIGHT, Curve, curves_of, figure
from kernels_bench.report.log_axes import MOST_TICKS, ticks
from kernels_bench.report.summary.schema import Verdict
from support.records import HIDDEN, broken, case, held, timed, verified

MM = "mm/4096x4096/bf16"
SVG = "{http://www.w3.org/2000/svg}"
LEAST_CONTRAST = 4.5
"""Of text, by WCAG 2.2 AA."""


def records() -> list[AnyRecord]:
    found: list[AnyRecord] = [verified(case("torch"), broken()), verified(case("samebits"), held())]
    found += [timed(case(arm), m, us) for arm, us in (("torch", 10.0), ("samebits", 25.0)) for m in (2048, 1, 16)]
    return [
        *found,
        verified(case("torch", "rms_norm", HIDDEN), held()),
        timed(case("torch", "rms_norm", HIDDEN), 1, 2.0),
    ]


def curve(arm: str, us: float = 10.0, verdict: Verdict = "sampled") -> Curve:
    return Curve(arm=arm, verdict=verdict, points=((1, us), (16, us)))


def parsed(*curves: Curve) -> ElementTree.Element:
    return ElementTree.fromstring(figure("mm & others", curves))


def names(svg: ElementTree.Element) -> dict[str, ElementTree.Element]:
    found = (text for text in svg.iter(f"{SVG}text") if "name" in text.get("class", "").split())
    return {text.text or "": text for text in found}


def test_curves_are_of_one_case_with_their_verdicts_in_the_order_of_m() -> None:
    torch, samebits = curves_of(records(), MM)
    assert (torch.arm, torch.verdict, torch.points) == ("torch", "variant", ((1, 10.0), (16, 10.0), (2048, 10.0)))
    assert (samebits.arm, samebits.verdict) == ("samebits", "sampled")


def test_a_case_without_timings_is_no_picture() -> None:
    with pytest.raises(ValueError, match="no timings of mm/1x1/bf16"):
        curves_of(records(), "mm/1x1/bf16")


def test_sequences_are_timed_at_several_lengths_and_make_no_line() -> None:
    of = case("torch", "attention_decode")
    long = timed(of, 1, 10.0, length=2048)
    with pytest.raises(ValueError, match="is timed at several lengths"):
        curves_of([verified(of), long], of.without_arm)


def test_lines_say_what_became_of_the_bits_without_colour_too() -> None:
    svg = parsed(curve("torch", verdict="variant"), curve("samebits", 20.0), curve("odd", 30.0, "failed"))
    assert set(names(svg)) == {"torch: bits change with the batch", "samebits: kept its bits", "odd: failed"}
    classes = [path.get("class") for path in svg.iter(f"{SVG}path") if "line" in path.get("class", "")]
    assert sorted(map(str, classes)) == ["other line", "sampled line", "variant line"]
    title = svg.findtext(f"{SVG}title")
    assert title is not None
    assert title.startswith("mm & others: torch: bits change with the batch, 10.0 to 10.0 µs")


def test_a_slower_arm_stands_higher_and_a_larger_m_further_right() -> None:
    svg = parsed(Curve(arm="a", verdict="sampled", points=((1, 10.0), (16, 100.0))))
    (x, y), (right, top) = ((float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in svg.iter(f"{SVG}circle"))
    assert right > x
    assert top < y


def test_names_of_lines_that_end_together_do_not_touch() -> None:
    svg = parsed(*(curve(f"arm{number}", 10.0 + number / 100) for number in range(5)), curve("far", 400.0))
    places = sorted(float(text.get("y", 0)) for text in names(svg).values())
    assert all(below - above >= LINE_HEIGHT - 0.2 for above, below in pairwise(places))


@pytest.mark.parametrize("us", [1.0, 10.0, 3.7, 0.02, 5000.0])
def test_one_point_is_a_picture_too(us: float) -> None:
    svg = parsed(Curve(arm="alone", verdict="sampled", points=((16, us),)))
    (dot,) = svg.iter(f"{SVG}circle")
    height = float(svg.get("viewBox", "").split()[3])
    assert 0 < float(dot.get("cy", -1)) < height


def schemes() -> Iterator[dict[str, str]]:
    """Fill colours by class, in the light scheme and in the dark one."""
    style = parsed(curve("a")).findtext(f"{SVG}style") or ""
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for part in (light, dark):
        yield dict(re.findall(r"^ *\.?(\w+) \{[^}]*?fill: (#\w{6})", part, re.MULTILINE))


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", list(schemes()), ids=["light", "dark"])
def test_text_can_be_read_in_both_schemes(scheme: dict[str, str]) -> None:
    assert set(scheme) == {"text", "paper", "sampled", "variant", "wrong", "other"}
    for name, colour in scheme.items():
        brighter, darker = sorted((luminance(colour), luminance(scheme["paper"])), reverse=True)
        assert name == "paper" or (brighter + 0.05) / (darker + 0.05) >= LEAST_CONTRAST, name


@example(9999999.999999998, 9999999.999999998)
@example(0.9999999999999999, 1.0)
@given(st.floats(1e-3, 1e9), st.floats(1e-3, 1e9))
def test_ticks_are_round_and_leave_no_number_out(one: float, other: float) -> None:
    least, most = sorted((one, other))
    found = ticks(least, most)
    assert 2 <= len(found) <= MOST_TICKS
    assert found == sorted(set(found))
    assert found[0] <= least
    assert most <= found[-1]
    assert all(f"{tick:.0e}"[0] in "125" for tick in found)
