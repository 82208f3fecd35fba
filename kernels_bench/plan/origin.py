"""Where a plan was made, and what makes it another one elsewhere."""

from __future__ import annotations

from typing import Any

from kernels_bench.plan.record import Plan
from kernels_bench.records.cases import Device
from profiles.instruments.environment import Environment, differences

_HOST: dict[str, Any] = {"os": "", "machine": "", "cpu_model": None, "logical_cores": None, "usable_cores": None}
"""On a GPU these decide nothing about a kernel."""


def elsewhere(plan: Plan, device: Device, now: Environment, alike: dict[str, Any] | None = None) -> tuple[str, ...]:
    """What is another than where a plan was made, a line a fact; empty if the plan holds here.

    Of samebits' sources those count that its kernels are made of.

    Args:
        plan: what was made then.
        device: the one at hand; where it has no name, its type tells.
        now: of this process.
        alike: facts that are not compared, each with a value for both.
    """
    then = plan.environment
    same = {"device": None, **(alike or {}), **(_HOST if plan.device.type == "cuda" else {})}
    if then.kernels_digest:
        same["source_digest"] = ""
    found = differences(then.model_copy(update=same), now.model_copy(update=same))
    if then.kernels_digest and then.kernels_digest != now.kernels_digest:
        found = (f"samebits' kernels: {then.kernels_digest} then, {now.kernels_digest} now", *found)
    if device.type != plan.device.type or (device.name and device.name != plan.device.name):
        found = (f"device: {plan.device.name} then, {device.name or now.cpu_model} now", *found)
    return found
