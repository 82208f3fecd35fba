"""What ``tp-sizes`` does: from a command line to engines, and back to lines, a file and a status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from e2e.checkpoints.resolve import cache_directory, checkpoint
from e2e.records import AtTpSize, TpSizes
from e2e.report.tp_sizes import exit_status, lines
from e2e.run.run_tp_sizes import ask_at_sizes
from e2e.workload.arms import check_engine, unsupported
from e2e.workload.messages import StartEngine
from e2e.workload.options import ArmName, Options, OptionsError
from kernels_bench.commands.report import write
from kernels_bench.records.cases import Device
from profiles.command_line import say
from profiles.run_files.strict_json import strict_json

FOUND = "tp-sizes.json"
_ARMS: tuple[ArmName, ...] = ("baseline", "batch-invariant")


def sizes_of(text: str) -> tuple[int, ...]:
    """Read ``1,2,4``.

    Raises:
        OptionsError: fewer than two different sizes, or something else.
    """
    words = [word.strip() for word in text.split(",")]
    sizes = tuple(dict.fromkeys(int(word) for word in words if word.isdecimal()))
    if len(sizes) < 2 or len(sizes) < len(words) or min(sizes) < 1:
        raise OptionsError(f"tp-sizes {text}: expected two or more sizes, such as 1,2")
    return sizes


def arm_of(text: str) -> ArmName:
    """Read an arm's name.

    Raises:
        OptionsError: it has no engine of its own mode and any size.
    """
    chosen = next((arm for arm in _ARMS if arm == text), None)
    if chosen is None:
        raise OptionsError(f"--arm {text}: expected {' or '.join(_ARMS)}")
    return chosen


def compare_sizes(
    sizes: tuple[int, ...],
    arm: ArmName,
    options: Options,
    device: Device,
    directory: Path,
    timeout_s: float,
    tell: Callable[[str], None],
) -> int:
    """Ask an engine of each size for the needles; say and keep what they answered.

    Returns:
        The exit status.

    Raises:
        OptionsError: there is no such engine here.
        WorkerError: vLLM is not installed.
    """
    check_engine(device)
    if reason := unsupported(arm, device):
        raise OptionsError(f"--arm {arm}: {reason}")
    path = checkpoint(options.model, cache_directory(), tell)
    start = StartEngine(arm=arm, model=path, options=options, on_gpu=device.type != "cpu")
    asked: list[AtTpSize] = []

    def found() -> TpSizes:
        return TpSizes(arm=arm, options=options, model=path, device=device, sizes=tuple(asked))

    try:
        for one in ask_at_sizes(sizes, start, device, directory, timeout_s, tell):
            asked.append(one)
            write(str(directory / FOUND), strict_json(found()))  # each at once, that an interruption costs none
    finally:
        if asked:
            say(lines(found()))
    say([f"  kept in: {directory} ({FOUND}, and what each engine printed)"])
    return exit_status(found())
