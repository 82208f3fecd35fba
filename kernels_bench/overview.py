"""A run on one small table: what the README opens with.  ``report --into FILE`` writes it between two markers."""

from __future__ import annotations

from kernels_bench.conclusions import ArmSummary, OperatorSummary, RunSummary

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"

SIGNS = {
    "sampled": "✅",
    "variant": "❌",
    "wrong": "⛔",
    "failed": "⚠️",
    "inconclusive": "❔",
}
"""A sign for each verdict of a case that was examined."""


def overview(summary: RunSummary) -> str:
    """Operators by arms: cases by verdict, and speed against the default arm (GitHub Markdown)."""
    names = [arm.arm for arm in summary.arms]
    lines = ["| operator | " + " | ".join(f"`{name}`" for name in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for operator in summary.operators:
        cells = [_cell(operator, name) for name in names]
        lines.append(f"| `{operator.operator}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(operator: OperatorSummary, name: str) -> str:
    arm = next((arm for arm in operator.arms if arm.arm == name), None)
    counts = {} if arm is None else {sign: arm.verdicts.get(verdict, 0) for verdict, sign in SIGNS.items()}  # type: ignore[call-overload]
    shown = " ".join(f"{sign} {count}" for sign, count in counts.items() if count)
    return shown + _speed(arm, operator) if arm is not None and shown else "–"


def _speed(arm: ArmSummary, operator: OperatorSummary) -> str:
    if arm.warm is None or arm.arm == operator.default_arm:
        return ""
    return f" · {arm.warm.ratio:.2f}×"


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
