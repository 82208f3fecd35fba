"""A run on one small table: what the README opens with.  ``report --into FILE`` writes it between two markers."""

from __future__ import annotations

from kernels_bench.summary import ArmSummary, OperatorSummary, RunSummary

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"

SIGNS = {
    "sampled": "✅ kept",
    "variant": "❌ variant",
    "wrong": "⛔ wrong",
    "failed": "⚠️ failed",
    "inconclusive": "❔ inconclusive",
}


def overview(summary: RunSummary) -> str:
    """Operators by arms: verdict, cases with that verdict, and speed against the default arm (GitHub Markdown)."""
    names = [arm.arm for arm in summary.arms]
    lines = ["| operator | " + " | ".join(f"`{name}`" for name in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for operator in summary.operators:
        cells = [_cell(operator, name, summary) for name in names]
        lines.append(f"| `{operator.operator}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(operator: OperatorSummary, name: str, summary: RunSummary) -> str:
    arm = next((arm for arm in operator.arms if arm.arm == name), None)
    if arm is None or arm.verdict not in SIGNS:
        return "–"
    examined = arm.cases - arm.verdicts.get("unsupported", 0)
    sign = SIGNS[arm.verdict]
    count = f" {arm.verdicts[arm.verdict]}/{examined}"
    return sign + count + _speed(arm, summary)


def _speed(arm: ArmSummary, summary: RunSummary) -> str:
    if arm.warm is None or arm.arm == summary.facts.default_arm:
        return ""
    return f", {arm.warm.ratio:.2f}×"


def write_between(text: str, drawn: str) -> str:
    """A document with what stands between its markers replaced.

    Raises:
        ValueError: it has no markers.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} … {END} in it")
    return f"{head}{begin}\n{drawn}\n{end}{tail}"
