"""From words on the command line, and variables, to options, arms and trials: each is checked here, once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from e2e.checkpoints.resolve import default_model
from e2e.workload.options import (
    ArmName,
    Mode,
    Options,
    OptionsError,
    check_backend,
    known_backends,
    read_options,
)
from e2e.workload.trials import trial_named, trials_of
from kernels_bench.console.text import suggestion
from kernels_bench.plan.file import read_plan
from kernels_bench.planned.variables import DEFAULT as DEFAULT_PLAN
from kernels_bench.records.cases import Device


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a command's flags that are options and were given.

    False is a switch that was left out, unless nobody's choice is None, as of ``--no-chunked-prefill``.
    """
    usual = {name: field.default for name, field in Options.model_fields.items()}
    found = {
        name: value
        for name, value in flags.items()
        if name in usual and value is not None and (value is not False or usual[name] is None)
    }
    return found | ({"ignore_eos": False} if flags.get("stop_at_eos") else {})


def options_of(flags: Mapping[str, Any]) -> Options:
    """The options that flags and the environment's variables name.

    Raises:
        OptionsError: one of them is wrong.
    """
    mode = flags.get("mode")
    if mode not in (None, *get_args(Mode)):
        raise OptionsError(f"--mode {mode}: expected {' or '.join(get_args(Mode))}")
    options = read_options(flags, os.environ)
    if options.server is None:
        check_backend(options.backend, known_backends())
    return options


def arms_of(text: str | None, options: Options) -> tuple[ArmName, ...] | None:
    """Read the value of ``--arms``; None where nothing is asked for and the device decides.

    Raises:
        OptionsError: an arm is unknown, or does not fit the other options.
    """
    if text is None:
        return ("server",) if options.server is not None else None
    known: tuple[ArmName, ...] = get_args(ArmName)
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise OptionsError(f"--arms {text}: expected one or more of {', '.join(known)}")
    for word in words:
        if word not in known:
            raise OptionsError(f"--arms {word}: unknown{suggestion(word, known)}")
    if ("server" in words) != (options.server is not None):
        raise OptionsError("--arms server and --server URL belong together")
    # The baseline goes first: the others are judged by what it shows.
    return tuple(arm for arm in known if arm in words)


def with_plan(options: Options, arms: tuple[ArmName, ...] | None) -> Options:
    """The options with the plan that the arm ``planned`` is to have, as its process is told it.

    Raises:
        OptionsError: no arm is to have one.
        ResultsError: the file is no plan.
    """
    if "planned" not in (arms or ()):
        if options.plan is not None:
            raise OptionsError(f"--plan {options.plan}: only the arm planned has one, and is not asked for")
        return options
    plan = options.plan or DEFAULT_PLAN
    if plan != DEFAULT_PLAN:
        path = Path(plan).resolve()
        read_plan(path)
        plan = str(path)
    return options.model_copy(update={"plan": plan})


def trials_asked(only: str | None, options: Options) -> tuple[int, ...]:
    """All trials, or the one that ``--trial`` names.

    Raises:
        OptionsError: there is none of that name.
    """
    if only is None:
        return trials_of(options)
    trial = trial_named(only)
    if trial not in trials_of(options):
        raise OptionsError(f"--trial {only}: expected 1 to --num-trials {options.num_trials}, or staggered")
    return (trial,)


def settled(options: Options, device: Device) -> tuple[Options, str]:
    """The options as this machine can have them, and what a reader must know of it."""
    note = ""
    if "model" not in options.model_fields_set:  # neither a flag nor a variable names one
        model, note = default_model()
        options = options.model_copy(update={"model": model})
    if device.type != "cuda":
        return options.model_copy(update={"backend": None}), note
    return options, note
