"""Commands that a user can copy: what shows a finding again is itself a call of kernels_bench."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from kernels_bench.records.cases import Case
from kernels_bench.records.results import Order
from profiles.invocation import called


def command_line(*subcommand: str, options: Mapping[str, str | None]) -> str:
    """A command of kernels_bench as the user types it; options without a value are left out."""
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    return shlex.join([*called("kernels_bench"), *subcommand, *words])


def rerun_command(case: Case, plugin: str | None = None) -> str:
    """The command that measures one case alone."""
    return command_line(options=_alone(case) | {"plugin": plugin})


def order_command(case: Case, order: Order, plugin: str | None = None) -> str:
    """The command that reads a case's orders at the M between which they change, or at all if rows of one M differ."""
    batch = ",".join(str(one.sizes[0]) for one in order.found) if len(order.found) > 1 else None
    return command_line("order", options=_alone(case) | {"batch": batch, "plugin": plugin})


def _alone(case: Case) -> dict[str, str | None]:
    """What chooses a case."""
    return {"op": case.operator, "arm": case.arm, "shapes": case.shape.token, "dtype": str(case.precision)}
