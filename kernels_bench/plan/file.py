"""A plan's file, read, and whether it is of here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kernels_bench.plan.record import Plan
from kernels_bench.records.cases import Device
from kernels_bench.records.manifest import MANIFEST, ResultsError
from kernels_bench.records.rerun_commands import command_line
from profiles.errors import ExitStatus
from profiles.files import read_file
from profiles.instruments.environment import Environment, differences

PLAN_FILE = "plan.json"
"""A plan's name in the directory of the run that it was made of, unless another was asked for."""

_MOST_BYTES = 64 << 20

_HOST: dict[str, Any] = {"os": "", "machine": "", "cpu_model": None, "logical_cores": None, "usable_cores": None}
_HOSTS_VARIABLES = ("CUDA_VISIBLE_DEVICES", "DNNL_", "KMP_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_")
"""On a GPU neither these nor variables that begin so decide anything about a kernel."""


def read_plan(path: Path) -> Plan:
    """A plan of a file.

    Raises:
        ResultsError: it cannot be read, or is none.
    """
    return parsed(plan_bytes(path), path)


def parsed(content: bytes, path: Path) -> Plan:
    """A plan that was read already.

    Args:
        content: of its file.
        path: of the file, for messages.

    Raises:
        ResultsError: it is none.
    """
    try:
        return Plan.model_validate_json(content)
    except ValidationError as error:
        # A file of another kind lacks what a plan has: that tells more than the first field that both have.
        found = error.errors()
        what = next((one for one in found if one["type"] == "missing"), found[0])
        where = ".".join(map(str, what["loc"])) or "the file"
        message = f"{path} is no plan: {where}: {what['msg'].removeprefix('Value error, ')}"
        raise ResultsError(f"{message}; make one with: python -m kernels_bench plan", ExitStatus.USAGE) from error


def digest_of(content: bytes) -> str:
    """The first 16 hex digits of a plan's SHA-256, by which it is named."""
    return hashlib.sha256(content).hexdigest()[:16]


def plan_bytes(path: Path) -> bytes:
    """What a plan's file holds.

    Raises:
        ResultsError: it cannot be read.
    """
    try:
        return read_file(path, _MOST_BYTES)
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror or error}{_instead(path)}", ExitStatus.USAGE) from error


def _instead(path: Path) -> str:
    """What to name in place of a run's directory, which its plan lies in or can be made of."""
    if not (path / MANIFEST).is_file():
        return ""
    if (path / PLAN_FILE).is_file():
        return f"; its plan is {path / PLAN_FILE}"
    made = command_line("plan", options={"run": str(path)})
    return f", of a run that no plan was made of; {made} makes one"


def elsewhere(plan: Plan, device: Device, now: Environment, alike: dict[str, Any] | None = None) -> tuple[str, ...]:
    """What is another than where a plan was made, a line a fact; empty if the plan holds here.

    Of samebits' sources those count that its kernels are made of.

    Args:
        plan: what was made then.
        device: the one at hand; where it has no name, its type tells.
        now: of this process.
        alike: facts that are not compared, each with a value for both.
    """
    same = {"device": None, **(alike or {}), **({"source_digest": ""} if plan.environment.kernels_digest else {})}
    then, here = (one.model_copy(update=same) for one in (plan.environment, now))
    if plan.device.type == "cuda":
        then, here = map(_beside_its_host, (then, here))
    found = differences(then, here)
    if then.kernels_digest and then.kernels_digest != now.kernels_digest:
        found = (f"samebits' kernels: {then.kernels_digest} then, {now.kernels_digest} now", *found)
    if device.type != plan.device.type or (device.name and device.name != plan.device.name):
        found = (f"device: {plan.device.name} then, {device.name or now.cpu_model} now", *found)
    return found


def _beside_its_host(environment: Environment) -> Environment:
    """What decides about a GPU's kernels."""
    left = {name: said for name, said in environment.variables.items() if not name.startswith(_HOSTS_VARIABLES)}
    return environment.model_copy(update={**_HOST, "variables": left})
