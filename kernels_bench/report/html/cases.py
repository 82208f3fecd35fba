"""One operator at one shape and dtype, over all arms: what a page shows of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from markupsafe import Markup

from kernels_bench.console.printing import NOTHING
from kernels_bench.console.text import microseconds
from kernels_bench.records.cases import Case, Load
from kernels_bench.records.latest_records import LatestRecords, median_us
from kernels_bench.records.rerun_commands import order_command
from kernels_bench.records.results import Ceiling, Order, SampleSummary, Timing, Verification
from kernels_bench.report.html.plot import Line, Point, plot
from kernels_bench.report.html.strips import Strips, letter, strips_of
from kernels_bench.report.sentences import WORDS, and_, ratio_text
from kernels_bench.report.summary.broken_relations import broken_companies, numbers, where
from kernels_bench.report.summary.findings_text import describe, extent, sizes_text
from kernels_bench.report.summary.schema import RunSummary, Verdict, plugin_of
from kernels_bench.report.summary.speed import ceiling_share, speed_over


@dataclass(frozen=True)
class Mark:
    """What became of one arm in a case: its verdict, the same in a word, and its speed."""

    arm: str
    verdict: Verdict
    word: str
    speed: str


@dataclass(frozen=True)
class Picture:
    """A plot with its caption."""

    caption: str
    svg: Markup


@dataclass(frozen=True)
class Break:
    """A relation that an arm broke: where, a counterexample in words, and the command that shows it again."""

    arm: str
    relation: str
    where: str
    text: str
    command: str


@dataclass(frozen=True)
class Orders:
    """In which orders some arms add, of which the same is true.

    Attributes:
        arms: whose.
        text: what is known, in a sentence.
        found: for each order at which M it is read, and its words.
        command: reads it again where it differs; else empty.
        terms: how many are added.
    """

    arms: tuple[str, ...]
    text: str
    terms: int
    found: tuple[tuple[str, str], ...]
    command: str


@dataclass(frozen=True)
class Row:
    """An arm's times: a cell for each load, of the median and its spread."""

    arm: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CaseView:
    """What a page shows of one case.

    Attributes:
        anchor: its place in the page.
        label: where its shape comes from.
        sizes: its sizes and dtype.
        invented: whether no model has the shape.
        changed: whether some arm's bits changed.
        marks: every arm that offers it.
        remarks: of arms that could not be verified or are wrong, why.
        pictures: plots.
        strips: where bits change over M; None where no M is known.
        alike: which arms have the same bits as each other, and where.
        breaks: what broke.
        orders: of addition.
        loads: heads of the table of times.
        times: its rows.
    """

    anchor: str
    label: str
    sizes: str
    invented: bool
    changed: bool
    marks: tuple[Mark, ...]
    remarks: tuple[tuple[str, str], ...]
    pictures: tuple[Picture, ...]
    strips: Strips | None
    alike: tuple[str, ...]
    breaks: tuple[Break, ...]
    orders: tuple[Orders, ...]
    loads: tuple[str, ...]
    times: tuple[Row, ...]

    @property
    def orders_in_words(self) -> Iterator[tuple[str, int]]:
        """Every order of addition that is told of, and how many terms it adds."""
        return ((words, one.terms) for one in self.orders for _, words in one.found)


def cases_of(found: LatestRecords, summary: RunSummary) -> dict[str, list[CaseView]]:
    """Every case of a run by operator, models' shapes first."""
    keys: dict[str, Case] = {}
    for record in found.cases():
        keys.setdefault(record.case.without_arm, record.case)
    verifications: dict[str, list[Verification]] = {}
    timings: dict[str, list[Timing]] = {}
    for verification in found.verifications.values():
        verifications.setdefault(verification.case.without_arm, []).append(verification)
    for timing in found.timings.values():
        if timing.status == "measured":
            timings.setdefault(timing.case.without_arm, []).append(timing)
    views: dict[str, list[CaseView]] = {operator.operator: [] for operator in summary.operators}
    order = list(views)
    ordered = sorted(keys.items(), key=lambda one: (order.index(one[1].operator), one[1].shape.invented))
    for number, (key, case) in enumerate(ordered):
        view = _case(f"case-{number + 1}", case, verifications.get(key, []), timings.get(key, []), summary)
        views[case.operator].append(view)
    return views


def _case(
    anchor: str, case: Case, verified: Sequence[Verification], timed: Sequence[Timing], summary: RunSummary
) -> CaseView:
    """One case of all arms: verdicts, bits, times and pictures."""
    place = {arm.arm: number for number, arm in enumerate(summary.arms)}
    verified = sorted(verified, key=lambda one: place[one.case.arm])
    by_arm: dict[str, list[Timing]] = {}
    for timing in sorted(timed, key=lambda one: (place[one.case.arm], one.length or 0, one.m)):
        by_arm.setdefault(timing.case.arm, []).append(timing)
    default = next(operator.default_arm for operator in summary.operators if operator.operator == case.operator)
    loads = sorted({timing.load for timing in timed}, key=lambda load: (load.length or 0, load.m))
    sizes = case.shape.token.replace("x", "×")
    return CaseView(
        anchor=anchor,
        label=case.shape.label,
        sizes=f"{sizes} {case.precision}",
        invented=case.shape.invented,
        changed=any(one.verdict == "variant" for one in verified),
        marks=tuple(_mark(one, by_arm, default) for one in verified if one.verdict != "unsupported"),
        remarks=tuple(_remarks(verified)),
        pictures=tuple(_pictures(case, by_arm, verified, place, summary.ceiling)),
        strips=strips_of([one for one in verified if one.verdict != "unsupported"]),
        alike=tuple(_alike(verified)),
        breaks=tuple(found for one in verified for found in _breaks(one)),
        orders=tuple(_orders(verified, summary)),
        loads=tuple(_load_text(load) for load in loads),
        times=tuple(Row(arm, tuple(_cells(mine, loads))) for arm, mine in by_arm.items()),
    )


def _mark(one: Verification, by_arm: Mapping[str, Sequence[Timing]], default: str) -> Mark:
    arm = one.case.arm
    speed = speed_over(by_arm.get(arm, []), by_arm.get(default, []), "warm") if arm != default else None
    return Mark(arm, one.verdict, WORDS.get(one.verdict, one.verdict), ratio_text(speed.ratio) if speed else "")


def _remarks(verified: Sequence[Verification]) -> Iterator[tuple[str, str]]:
    for one in verified:
        if one.verdict == "wrong":
            yield one.case.arm, f"wrong: {one.wrong}"
        elif one.status in ("failed", "skipped"):
            yield one.case.arm, f"{one.status}: {one.reason}"
        for result in one.relations:
            if result.status == "failed" or (result.status == "broken" and result.reason):
                yield one.case.arm, f"{result.relation} {result.status}: {result.reason}"


# --- plots ---------------------------------------------------------------------------------------------------


def _pictures(
    case: Case,
    by_arm: Mapping[str, Sequence[Timing]],
    verified: Sequence[Verification],
    place: Mapping[str, int],
    ceiling: Ceiling | None,
) -> Iterator[Picture]:
    """Time and share of the ceiling, at each length of sequences."""
    changed = {one.case.arm for one in verified if one.verdict in ("variant", "wrong")}
    lengths = dict.fromkeys(timing.length for mine in by_arm.values() for timing in mine)
    for length in sorted(lengths, key=lambda one: one or 0):
        at = "" if length is None else f", KV {length:,}"
        timed = {arm: [timing for timing in mine if timing.length == length] for arm, mine in by_arm.items()}

        def lines(points: Mapping[str, Sequence[Point]]) -> list[Line]:
            """One line of a plot for each arm that has points."""
            return [Line(arm, place[arm], arm in changed, tuple(mine)) for arm, mine in points.items() if mine]

        told = f"{case.operator}, {case.shape.label} {case.precision}{at}"
        if times := lines({arm: list(_times(mine)) for arm, mine in timed.items()}):
            yield Picture(f"µs a call{at}", plot(f"time over M: {told}", times))
        shares = lines({arm: list(_shares(mine, ceiling)) for arm, mine in timed.items()})
        if shares:
            yield Picture(f"% of the ceiling{at}", plot(f"share of the ceiling over M: {told}", shares))


def _times(timed: Sequence[Timing]) -> Iterator[Point]:
    for timing in timed:
        if (us := median_us(timing, "warm")) is not None and timing.warm is not None:
            low, high = _spread(timing.warm)
            yield Point(timing.m, us, low, high)


def _spread(measured: SampleSummary) -> tuple[float, float]:
    """From p10 to p90; the median twice where these are no times."""
    low, middle, high = measured.p10_us, measured.median_us, measured.p90_us
    return (low, high) if isfinite(high) and 0 < low <= middle <= high else (middle, middle)


def _shares(timed: Sequence[Timing], ceiling: Ceiling | None) -> Iterator[Point]:
    for timing in timed:
        share = ceiling_share(timing, ceiling) if ceiling is not None else None
        if share is not None:
            yield Point(timing.m, 100 * share, 100 * share, 100 * share)


def _load_text(load: Load) -> str:
    return f"M={load.m}" if load.length is None else f"M={load.m}, KV {load.length:,}"


def _cells(timed: Sequence[Timing], loads: Sequence[Load]) -> Iterator[tuple[str, str]]:
    """For each load the median with its spread, as text."""
    known = {timing.load: timing for timing in timed}
    for load in loads:
        timing = known.get(load)
        us = median_us(timing, "warm") if timing is not None else None
        if timing is None or us is None or timing.warm is None:
            yield NOTHING, ""
            continue
        low, high = _spread(timing.warm)
        yield microseconds(us), f"{microseconds(low)}–{microseconds(high)}" if high > low else ""


# --- bits ----------------------------------------------------------------------------------------------------


def _alike(verified: Sequence[Verification]) -> Iterator[str]:
    """Which arms have the same bits as each other, those groups together that are so at the same M."""
    digests = {one.case.arm: one.digests for one in verified if one.status == "measured"}
    groups: dict[tuple[str, ...], list[int]] = {}
    sizes = sorted({m for mine in digests.values() for m in mine})
    for m in sizes:
        same: dict[str, list[str]] = {}
        for arm, mine in digests.items():
            if m in mine:
                same.setdefault(mine[m], []).append(arm)
        for alike in same.values():
            if len(alike) > 1:
                groups.setdefault(tuple(alike), []).append(m)
    for arms, at in groups.items():
        places = f"at every M compared (M={numbers(at)})" if at == sizes else f"at M={', '.join(map(str, at))}"
        yield f"{and_(arms)} {places}"


def _breaks(one: Verification) -> Iterator[Break]:
    for result in one.relations:
        if result.status == "broken" and (found := result.counterexample) is not None:
            aside = "" if result.binding else "; left to callers, and no verdict counts it"
            text = describe(found).removeprefix(f"{result.relation}: ")
            places = where(broken_companies(result)) + aside
            yield Break(one.case.arm, result.relation, places, text + extent(result), found.command)


def _orders(verified: Sequence[Verification], summary: RunSummary) -> Iterator[Orders]:
    """Arms that add alike are told of once."""
    groups: dict[tuple[object, ...], list[Verification]] = {}
    for one in verified:
        if one.order is not None and one.order.found:
            key = (one.order.status, one.order.reason, one.order.witness, one.order.found)
            groups.setdefault(key, []).append(one)
    for alike in groups.values():
        first, order = alike[0], alike[0].order
        assert order is not None
        command = ""
        if order.status == "variant":
            command = order_command(first.case, order, plugin_of(first.case.arm, summary.facts))
        yield Orders(
            tuple(one.case.arm for one in alike), _order_text(order), order.terms, tuple(_found(order)), command
        )


_ORDERS = {"proven": "the same at every M", "variant": "differs with M", "unknown": "not read at every M"}


def _order_text(order: Order) -> str:
    details = "; ".join(part for part in (order.witness, order.reason) if part)
    said = _ORDERS.get(order.status, order.status)
    return f"{said}: {details}" if details else said


def _found(order: Order) -> Iterator[tuple[str, str]]:
    for number, found in enumerate(order.found):
        name = f"{letter(number)}, " if len(order.found) > 1 else ""
        yield f"{name}{sizes_text(found.sizes)}", found.words
