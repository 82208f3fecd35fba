"""A run on one small table, for a README or a page.  ``report --into FILE`` writes it between two markers.

The markers are ``<!-- table NAME: begin -->`` and ``<!-- table NAME: end -->`` with the run directory's name, or
without a name, for a document with one table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kernels_bench.report.summary.schema import SIGNS, ArmSummary, OperatorSummary, RunSummary
from profiles.text import inert


def overview(summary: RunSummary) -> str:
    """Operators and arms, the more of them in rows: cases by verdict, and speed against the default arm (Markdown).

    In brackets: of how many cases the order of addition was read out and is the same at every M.
    """
    arms = [arm.arm for arm in summary.arms]
    operators = [operator.operator for operator in summary.operators]
    cells = {(o.operator, name): _cell(o, name) for o in summary.operators for name in arms}
    if len(operators) >= len(arms):
        return _markdown("operator", operators, arms, cells)
    return _markdown("arm", arms, operators, {(name, operator): cell for (operator, name), cell in cells.items()})


def _markdown(corner: str, rows: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[str, str], str]) -> str:
    lines = [f"| {corner} | " + " | ".join(map(_name, columns)) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {_name(row)} | " + " | ".join(cells[row, column] for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def _name(text: str) -> str:
    """A name, whatever it is, that ends neither its cell nor the quotation."""
    return f"`{inert(text).replace('|', '/').replace('`', '')}`"


def _cell(operator: OperatorSummary, name: str) -> str:
    arm = next((arm for arm in operator.arms if arm.arm == name), None)
    counts = {} if arm is None else {sign: arm.verdicts.get(verdict, 0) for verdict, sign in SIGNS.items()}
    shown = " ".join(f"{sign} {count}" for sign, count in counts.items() if count)
    if arm is not None and arm.orders.get("same"):
        shown += f" ({arm.orders['same']})"
    return shown + _speed(arm, operator) if arm is not None and shown else "–"


def _speed(arm: ArmSummary, operator: OperatorSummary) -> str:
    if arm.warm is None or arm.arm == operator.default_arm:
        return ""
    return f" · {arm.warm.ratio:.2f}×"


def write_between(text: str, drawn: str, name: str) -> str:
    """A document with what stands between the markers of a run of this name, or else the nameless ones, replaced.

    Raises:
        ValueError: it has neither.
    """
    for label in (f"table {name}", "table"):
        head, begin, rest = text.partition(f"<!-- {label}: begin -->")
        _, end, tail = rest.partition(f"<!-- {label}: end -->")
        if begin and end:
            return f"{head}{begin}\n{drawn}\n{end}{tail}"
    raise ValueError(f"no <!-- table {name}: begin --> … <!-- table {name}: end --> in it")
