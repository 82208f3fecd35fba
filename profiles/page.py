"""An analysis as one page with pictures, readable without a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from profiles.findings import Analysis, Explanation, KernelMap, Side
from profiles.naming import call_in_words
from profiles.pictures import agreement_picture, as_html, families_picture, map_letters, map_picture, ranges_picture
from profiles.wording import agreement_in_words

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1b1b; max-width: 1280px; margin: 1.5em auto; padding: 0 1em }
h1 { font-size: 1.6em } h2 { font-size: 1.25em; margin-top: 2em; border-bottom: 1px solid #ccc }
h3 { font-size: 1.05em; margin-bottom: 0 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .35em .7em .35em 0; border-bottom: 1px solid #e4e4e4 }
code, td.kernel, li.kernel { font: 13px/1.4 ui-monospace, monospace; overflow-wrap: anywhere }
ul.letters { columns: 2; padding-left: 1.2em }
.missing, .notes { color: #555 }
"""


def page(analysis: Analysis) -> str:
    """The whole page: one HTML document that loads nothing from elsewhere."""
    sections = (
        ("Medians against kernel time", _agreement(analysis)),
        ("Kernels by M", _maps(analysis)),
        ("Why bits changed", _explanations(analysis)),
        ("GPU time by family", _families(analysis)),
        ("GPU time by range", _ranges(analysis)),
    )
    body = "\n".join(f"<section><h2>{title}</h2>\n{''.join(parts)}</section>" for title, parts in sections)
    notes = "".join(f"<li>{escape(note)}</li>" for note in analysis.notes)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<title>{escape(analysis.report)} · samebits profiles</title><style>{_STYLE}</style>"
        f"{as_html.library()}</head>\n<body><h1>{escape(analysis.report)}</h1>"
        f"<p>{escape(analysis.source)}</p><ul class='notes'>{notes}</ul>\n{body}\n</body></html>\n"
    )


def _missing(why: str) -> Iterator[str]:
    yield f"<p class='missing'>{why}</p>"


def _without_run(analysis: Analysis) -> str:
    """Why there is nothing of a run."""
    if analysis.untold:
        return f"No timed case could be told: {_reasons(analysis)}."
    return "Needs a run of kernels_bench with timed cases: <code>--run DIR</code>."


def _reasons(analysis: Analysis) -> str:
    return escape("; ".join(dict.fromkeys(one.reason for one in analysis.untold)))


def _agreement(analysis: Analysis) -> Iterator[str]:
    rows = analysis.cross_check
    if not rows:
        yield from _missing(_without_run(analysis))
        return
    for cache in ("warm", "cold"):
        of_it = [row for row in rows if row.cache == cache]
        if of_it:
            yield f"<p>{cache}: {escape(agreement_in_words(of_it))}"
            if any(row.uncaptured_us is not None for row in of_it):
                yield f"; without the profiler {escape(agreement_in_words(of_it, uncaptured=True))}"
            yield "</p>"
    yield as_html(agreement_picture(rows))
    if analysis.untold:
        yield f"<p class='missing'>{len(analysis.untold)} cases are left out: {_reasons(analysis)}.</p>"


def _maps(analysis: Analysis) -> Iterator[str]:
    if not analysis.kernel_maps:
        yield from _missing(_without_run(analysis))
        return
    operators: dict[str, list[KernelMap]] = {}
    for one in analysis.kernel_maps:
        operators.setdefault(one.operator, []).append(one)
    for operator, maps in operators.items():
        letters = map_letters(maps)
        yield f"<h3>{escape(operator)}</h3>{as_html(map_picture(maps, letters))}<ul class='letters'>"
        yield from (f"<li class='kernel'><b>{letter}</b> {escape(call)}</li>" for call, letter in letters.items())
        yield "</ul>"


def _explanations(analysis: Analysis) -> Iterator[str]:
    if not analysis.explanations:
        yield from _missing("Needs a run with a variant verdict: <code>--run DIR</code>.")
        return
    yield "<table><tr><th>case</th><th>gave the expected bits</th><th>other bits</th><th>what changed</th></tr>"
    yield from map(_explanation, analysis.explanations)
    yield "</table>"


def _explanation(one: Explanation) -> str:
    changes: Sequence[str] = one.changes or (one.found,)
    lines = "<br>".join(map(escape, changes))
    return (
        f"<tr><td>{escape(one.case)}<br>{escape(one.relation)}</td>{_side(one.reference)}{_side(one.company)}"
        f"<td>{lines}<br><span class='missing'>{escape(one.basis)}</span></td></tr>"
    )


def _side(side: Side) -> str:
    kernels = escape(call_in_words(side.kernels)) if side.kernels else "not in the report"
    return f"<td class='kernel'>M={side.size} ({escape(side.company)})<br>{kernels}</td>"


def _families(analysis: Analysis) -> Iterator[str]:
    if not analysis.families:
        yield from _missing("Needs a report of <code>python -m e2e</code> whose trials ran kernels.")
        return
    yield as_html(families_picture(analysis.families))
    for arm in analysis.families:
        if arm.other:
            yield f"<p>{escape(arm.arm)}, other: <code>{escape(', '.join(arm.other[:20]))}</code></p>"
    if analysis.differences:
        yield "<table><tr><th>family</th><th>arm</th><th>phase</th><th>ms a range over the baseline's</th></tr>"
        for one in analysis.differences:
            cells = (one.family, f"{one.arm} against {one.baseline}", one.phase, f"{one.difference_ns / 1e6:+.3f}")
            yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        yield "</table>"


def _ranges(analysis: Analysis) -> Iterator[str]:
    if not analysis.ranges:
        yield from _missing("Nothing ran on the GPU.")
        return
    yield as_html(ranges_picture(analysis.ranges))
