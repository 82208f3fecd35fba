"""Another engine of the same model, as ``--against`` names it."""

from __future__ import annotations

import re

from e2e.workload.arms import unsupported
from e2e.workload.options import ARMS, ArmName, Options, OptionsError, check_backend, known_backends
from kernels_bench.console.text import suggestion
from kernels_bench.records.cases import Device
from profiles.run_files.record import Record

TRANSFORMERS = "transformers"
_EXPECTED = "expected transformers, transformers=ATTENTION, backend=NAME, tp=N or an arm"
_RANKS = re.compile("[1-9][0-9]{0,3}")


class Other(Record):
    """What is compared with.

    Attributes:
        name: as it was asked for.
        arm: of vLLM's engine; None where transformers is meant.
        backend: attention's: of vLLM's engine, or as transformers names it; None is the first engine's, or leaves it to
            transformers.
        tp_size: GPUs that share the model in it.
    """

    name: str
    arm: ArmName | None
    backend: str | None
    tp_size: int = 1


def read_other(text: str, arm: ArmName, options: Options, device: Device) -> Other:
    """What ``--against`` says.

    Args:
        text: what was given.
        arm: of the engine that is compared.
        options: that it is given.
        device: what engines run on.

    Raises:
        OptionsError: there is no such engine, or it is the same one.
    """
    name, _, value = text.partition("=")
    if name == TRANSFORMERS:
        if options.temperature:
            raise OptionsError(
                f"--against {text}: --temperature {options.temperature:g}: transformers draws no tokens; leave it out"
            )
        return Other(name=text, arm=None, backend=value or None)
    if name == "backend" and value:
        if device.type == "cpu":
            raise OptionsError(f"--against {text}: vLLM has one attention backend for CPUs")
        check_backend(value, known_backends())
        if value == options.backend:
            raise OptionsError(f"--against {text}: that is the backend of the engine itself")
        return Other(name=text, arm=arm, backend=value)
    if name == "tp":
        return Other(name=text, arm=arm, backend=None, tp_size=_ranks(text, value))
    return Other(name=text, arm=_arm(text, arm, device), backend=None)


def _ranks(text: str, value: str) -> int:
    if not _RANKS.fullmatch(value) or value == "1":
        raise OptionsError(f"--against {text}: expected tp=2 or more; the first engine is on one GPU")
    return int(value)


def _arm(text: str, arm: ArmName, device: Device) -> ArmName:
    other = next((one for one in ARMS if one == text), None)
    if other is None:
        raise OptionsError(f"--against {text}: {_EXPECTED}{suggestion(text, (TRANSFORMERS, *ARMS))}")
    if other == arm or {arm, other} == {"baseline", "serial"}:
        raise OptionsError(
            f"--against {text}: the needle is alone in both engines, so that this is the same one; {_EXPECTED}"
        )
    if other == "server":
        raise OptionsError("--against server: only an engine in a process of its own is looked into")
    if reason := unsupported(other, device):
        raise OptionsError(f"--against {text}: {reason}")
    return other
