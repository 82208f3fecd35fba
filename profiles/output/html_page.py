"""An analysis as one page with pictures, readable without a network, on a phone, by day and by night."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files

from profiles.analysis.schema import Analysis, ComparedBatch, Explanation, FamilyDifference, KernelMap, Origin, Told
from profiles.output.figures import (
    RANGES_KEY,
    Identity,
    Key,
    Picture,
    agreement_key,
    calls,
    families_key,
    families_picture,
    forms,
    library,
    map_picture,
    medians_picture,
    ranges_picture,
    shares_picture,
    templates,
)
from profiles.output.looks import PATTERNS, Look, looks
from profiles.output.text import agreement_in_words, waits_in_words
from profiles.trace.kernel_names import call_in_words


def page(analysis: Analysis) -> str:
    """The whole page: one HTML document that loads nothing from elsewhere."""
    sections = (
        ("Medians against kernel time", _agreement(analysis)),
        ("Kernels by M", _maps(analysis)),
        ("Why bits changed", _explanations(analysis)),
        ("GPU time by family", _families(analysis)),
        ("GPU time by range", _ranges(analysis)),
        *((("Which rank waited for which", _waits(analysis)),) if analysis.waits else ()),
    )
    body = "\n".join(f"<section><h2>{title}</h2>\n{''.join(parts)}</section>" for title, parts in sections)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(_title(analysis))}</title><style>{_part('page.css')}</style>"
        f"<script>{library()}</script></head>\n<body>{''.join(_header(analysis))}\n{body}\n"
        f"<script>const TEMPLATES = {templates()};\n{_part('page.js')}</script></body></html>\n"
    )


def _waits(analysis: Analysis) -> Iterator[str]:
    _, _, *lines = waits_in_words(analysis.waits)
    yield f"<pre>{escape(chr(10).join(lines))}</pre>"


def _part(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _title(analysis: Analysis) -> str:
    """What tells this page from others, as far as it is known: GPU, date, command, and the file's name."""
    origin = analysis.origin
    known = (origin.device, origin.created and _at_minute(origin.created), origin.command)
    return " · ".join([*(one.value for one in known if one), analysis.report])


def _at_minute(created: Told) -> Told:
    """A date for readers; as it stands where it is none."""
    try:
        moment = datetime.fromisoformat(created.value).astimezone(UTC)
    except ValueError:
        return created
    return Told(value=moment.strftime("%Y-%m-%d %H:%M UTC"), by=created.by)


def _header(analysis: Analysis) -> Iterator[str]:
    origin = analysis.origin
    date = origin.created and _at_minute(origin.created)
    yield f"<header><h1>{_fact(origin.device, 'span', 'GPU')} {_fact(date, 'time', 'date')}</h1>"
    yield f"<p class='command'>{_fact(origin.command, 'code', 'command')}</p>"
    yield f"<dl class='facts'><dt>report</dt><dd>{escape(analysis.report)} "
    yield f"<span class='muted'>{escape(analysis.source)}</span></dd>"
    yield from (f"<dt>{term}</dt><dd class='muted'>{escape(said)}</dd>" for term, said in _sources(origin))
    yield "</dl>"
    if analysis.notes:
        yield f"<ul class='notes'>{''.join(f'<li>{escape(note)}</li>' for note in analysis.notes)}</ul>"
    yield "</header>"


def _fact(told: Told | None, tag: str, what: str) -> str:
    return f"<{tag}>{escape(told.value)}</{tag}>" if told else f"<span class='unknown'>{what} unknown</span>"


def _sources(origin: Origin) -> Iterator[tuple[str, str]]:
    """Who says what of the origin, and what would tell the rest."""
    facts: Mapping[str, Told | None] = {"GPU": origin.device, "date": origin.created, "command": origin.command}
    by: dict[str, list[str]] = {}
    for name, told in facts.items():
        if told:
            by.setdefault(told.by, []).append(name)
    if by:
        yield "known from", "; ".join(f"{source} ({', '.join(names)})" for source, names in by.items())
    unknown = [name for name, told in facts.items() if told is None]
    if unknown:
        yield "unknown", f"{', '.join(unknown)}: a run (--run DIR) or the capture.json beside a report would tell"


def _missing(why: str) -> Iterator[str]:
    yield f"<p class='missing'>{why}</p>"


def _without_run(analysis: Analysis) -> str:
    """Why there is nothing of a run."""
    if analysis.untold:
        return f"No timed case could be told: {_reasons(analysis)}."
    return "Needs a run of kernels_bench with timed cases: <code>--run DIR</code>."


def _reasons(analysis: Analysis) -> str:
    return escape("; ".join(dict.fromkeys(one.reason for one in analysis.untold)))


def _plot(picture: Picture) -> str:
    """One picture, which the page's script draws."""
    widest = f" style='--widest: {picture.widest}px'" if picture.widest else ""
    return f"<figure class='plot'{widest}><script type='application/json'>{picture.json()}</script></figure>"


def _legend(keys: Iterable[Key]) -> Iterator[str]:
    """What colours and marks stand for; each entry hides and shows its own."""
    yield "<ul class='legend'>"
    for key in keys:
        mark = f"<span class='mark {key.mark}' style='--colour: {key.colour}'></span>"
        yield f"<li><button type='button' aria-pressed='true' data-name='{escape(key.name)}'>{mark}{escape(key.name)}"
        yield "</button></li>"
    yield "</ul>"


def _table(heads: Sequence[str], rows: Iterable[str], kind: str = "") -> Iterator[str]:
    """A table that scrolls by itself where it is wider than the page."""
    yield f"<div class='scroll' tabindex='0'><table class='{kind}'><thead><tr>"
    yield from (f"<th scope='col'{_NUMBER if head.startswith('ms') else ''}>{head}</th>" for head in heads)
    yield f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


_NUMBER = " class='number'"


def _agreement(analysis: Analysis) -> Iterator[str]:
    rows = analysis.cross_check
    if not rows:
        yield from _missing(_without_run(analysis))
        return
    for cache in ("warm", "cold"):
        of_it = [row for row in rows if row.cache == cache]
        if of_it:
            yield f"<p><b>{cache}</b>: {escape(agreement_in_words(of_it))}"
            if any(row.uncaptured_us is not None for row in of_it):
                yield f"; without the profiler {escape(agreement_in_words(of_it, uncaptured=True))}"
            yield "</p>"
    yield from _legend(agreement_key(rows))
    yield f"<div class='pictures'>{_plot(medians_picture(rows))}{_plot(shares_picture(rows))}</div>"
    if analysis.untold:
        yield f"<p class='missing'>{len(analysis.untold)} cases are left out: {_reasons(analysis)}.</p>"


def _maps(analysis: Analysis) -> Iterator[str]:
    if not analysis.kernel_maps:
        yield from _missing(_without_run(analysis))
        return
    operators: dict[str, list[KernelMap]] = {}
    for one in analysis.kernel_maps:
        operators.setdefault(one.operator, []).append(one)
    chosen = looks([calls(maps) for maps in operators.values()])
    for operator, maps in operators.items():
        yield f"<h3>{escape(operator)}</h3>{_plot(map_picture(maps, chosen))}"
        yield from _key(maps, chosen)


def _key(maps: Sequence[KernelMap], chosen: Mapping[Identity, Look]) -> Iterator[str]:
    """The kernels of each call that a picture shows."""
    yield "<ol class='key'>"
    for call, entry in sorted(calls(maps).items(), key=lambda one: chosen[one[0]].number):
        look = chosen[call]
        colours = f"--colour: {look.colour}; --on: {look.ink}"
        yield f"<li><span class='chip hatch{PATTERNS.index(look.pattern)}' style='{colours}'>{look.letter}</span>"
        yield f"<span><span class='kernel'>{escape(call_in_words(entry.kernels))}</span>"
        yield f"<small>{escape(forms(entry))}</small></span></li>"
    yield "</ol>"


def _explanations(analysis: Analysis) -> Iterator[str]:
    if not analysis.explanations:
        yield from _missing("Needs a run with a variant verdict: <code>--run DIR</code>.")
        return
    heads = ("case", "gave the expected bits", "other bits", "what changed")
    yield from _table(heads, map(_explanation, analysis.explanations), "wide")


def _explanation(one: Explanation) -> str:
    changes: Sequence[str] = one.changes or (one.found,)
    lines = "".join(f"<li>{escape(change)}</li>" for change in changes)
    return (
        f"<tr><th scope='row'>{escape(one.case)}<br><small>{escape(one.relation)}</small></th>"
        f"{_side(one.reference)}{_side(one.company)}"
        f"<td><ul class='kernel'>{lines}</ul><small>{escape(one.basis)}</small></td></tr>"
    )


def _side(side: ComparedBatch) -> str:
    kernels = escape(call_in_words(side.kernels)) if side.kernels else "not in the report"
    return f"<td>M={side.size} <small>{escape(side.company)}</small><span class='kernel'>{kernels}</span></td>"


def _families(analysis: Analysis) -> Iterator[str]:
    if not analysis.families:
        yield from _missing("Needs a report of <code>python -m e2e</code> whose trials ran kernels.")
        return
    yield from _legend(families_key(analysis.families))
    yield _plot(families_picture(analysis.families))
    for arm in analysis.families:
        if arm.other:
            yield f"<p>{escape(f'{arm.arm}, {arm.phase}')}, other: <code>{escape(', '.join(arm.other[:20]))}</code></p>"
    if analysis.differences:
        heads = ("family", "arm", "phase", "ms a range over the baseline's")
        yield from _table(heads, map(_difference, analysis.differences))


def _difference(one: FamilyDifference) -> str:
    apart = f"{one.difference_ns / 1e6:+,.3f}".replace("-", "−")
    return (
        f"<tr><th scope='row'>{escape(one.family)}</th><td>{escape(f'{one.arm} against {one.baseline}')}</td>"
        f"<td>{escape(one.phase)}</td><td class='number'>{apart}</td></tr>"
    )


def _ranges(analysis: Analysis) -> Iterator[str]:
    if not analysis.ranges:
        yield from _missing("Nothing ran on the GPU.")
        return
    yield from _legend(RANGES_KEY)
    yield _plot(ranges_picture(analysis.ranges))
