"""One engine that is looked into, and one process after it for the call that it gave up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from e2e.checkpoints.resolve import cache_directory
from e2e.locate.records import Located, Replayed
from e2e.run.processes import START_TIMEOUT_S, engine_process
from e2e.workload.arms import environment
from e2e.workload.messages import ComparePass, CompareTransformers, KeepPass, Locate, Replay, StartEngine
from e2e.workload.options import ArmName, Options
from e2e.workload.other import Other
from kernels_bench.records.cases import Device
from kernels_bench.workers.messages import Failure
from kernels_bench.workers.process import WorkerError, WorkerProcess
from profiles.run_files.record import Record

LOCATED = "located.json"
LOG, OTHER_LOG = "engine.log", "other-engine.log"
LOOKED_INTO = {"VLLM_USE_V2_MODEL_RUNNER": "0", "OMP_WAIT_POLICY": "passive"}
"""vLLM's second model runner does not tell whose rows are whose; and threads that spin between kernels would take the
processor from the digests."""
EAGER = {"TORCH_COMPILE_DISABLE": "1"}
"""vLLM compiles small functions in eager mode too, of which no operator is seen."""


def locate_in(
    directory: Path,
    start: StartEngine,
    device: Device,
    wanted: tuple[Sequence[int], int | None, bool],
    timeout_s: float,
    say: Callable[[str], None],
) -> Located:
    """Start an engine, look into it, and run the guilty call alone.

    Args:
        directory: for the call, and for what the engine prints.
        start: the engine.
        device: what it runs on.
        wanted: the trials, the needle or None, and whether causes after the first are looked for.
        timeout_s: for the passes, and for the replay.
        say: is told what goes on.

    Raises:
        WorkerError: the engine does not start, dies, or cannot be looked into; or its call cannot be kept.
    """
    trials, needle, all_causes = wanted
    with engine_process(start.arm, variables_of(start, device), directory / LOG) as worker:
        say("starting the engine")
        _ask(worker, start, START_TIMEOUT_S, "the engine did not start: ")
        say("looking into it")
        asked = Locate(trials=tuple(trials), needle=needle, directory=str(directory), all_causes=all_causes)
        found = _ask(worker, asked, timeout_s)
    assert isinstance(found, Located)
    if found.call is not None:
        say("running the guilty call alone")
        replayed = replay(directory / found.call, timeout_s, plugin=True)
        found = found.model_copy(update={"replayed": replayed})
    return found


def locate_against(
    directory: Path,
    start: StartEngine,
    device: Device,
    wanted: tuple[Other, int | None, bool],
    timeout_s: float,
    say: Callable[[str], None],
) -> Located:
    """Have one engine answer a needle alone, and compare another one with that.

    Args:
        directory: for what the engines print.
        start: the first engine.
        device: what they run on.
        wanted: the other engine, the needle or None, and whether places after the first are looked for.
        timeout_s: for the passes.
        say: is told what goes on.

    Raises:
        WorkerError: an engine does not start, dies, or cannot be looked into.
    """
    other, needle, all_causes = wanted
    file = directory / "pass.safetensors"
    begin = other_request(start, other)
    try:
        with engine_process(start.arm, variables_of(start, device), directory / LOG) as worker:
            say("starting the engine")
            _ask(worker, start, START_TIMEOUT_S, "the engine did not start: ")
            say("looking into it")
            _ask(worker, KeepPass(needle=needle, file=str(file), modules_only=other.arm is None), timeout_s)
        with engine_process(other.name, variables_of(begin, device), directory / OTHER_LOG) as worker:
            same = ComparePass(file=str(file), name=other.name, all_causes=all_causes)
            if other.arm is None:
                say("computing the same in transformers")
                asked: Record = CompareTransformers(
                    compare=same, model=start.model, attention=other.backend, on_gpu=start.on_gpu
                )
            else:
                say("starting the other engine")
                _ask(worker, begin, START_TIMEOUT_S, "the other engine did not start: ")
                say("looking into it")
                asked = same
            found = _ask(worker, asked, timeout_s)
    finally:
        file.unlink(missing_ok=True)
    assert isinstance(found, Located)
    return found


def replay(file: Path, timeout_s: float, *, plugin: bool = False) -> Replayed:
    """A saved call alone, in a process of its own.

    Args:
        file: that holds it.
        timeout_s: after which it has failed.
        plugin: whether a plugin of kernels_bench is written beside it.
    """
    log = file.with_name(f"{file.name}.log")  # never the file itself, whatever it is called
    with engine_process("replay", {"VLLM_LOGGING_LEVEL": "ERROR"}, log) as worker:
        answer: Any = worker.ask(Replay(file=str(file.resolve()), plugin=plugin), timeout_s)
    if isinstance(answer, Failure):
        return Replayed(reason=answer.reason)
    assert isinstance(answer, Replayed)
    return answer


def start_request(arm: ArmName, model: str, options: Options, device: Device) -> StartEngine:
    """The request for an engine that will be looked into."""
    return StartEngine(arm=arm, model=model, options=options, on_gpu=device.type != "cpu", looked_into=True)


def other_request(start: StartEngine, other: Other) -> StartEngine:
    """The request for another engine; around transformers, which takes none, no mode of vLLM's is on."""
    change = {"backend": other.backend or start.options.backend, "tp_size": other.tp_size}
    options = start.options.model_copy(update=change)
    return start.model_copy(update={"arm": other.arm or "baseline", "options": options})


def variables_of(start: StartEngine, device: Device) -> dict[str, str]:
    """What is set in the process of an engine that will be looked into."""
    options = start.options
    chosen = environment(start.arm, cache_directory(), device, options.plan, options.tp_size)
    return chosen | LOOKED_INTO | (EAGER if options.eager else {})


def _ask(worker: WorkerProcess, request: Record, timeout_s: float, before: str = "") -> Record:
    answer: Any = worker.ask(request, timeout_s)
    if isinstance(answer, Failure):
        raise WorkerError(before + answer.reason)
    assert isinstance(answer, Record)
    return answer
