"""The process of one arm: an engine, and what it is asked to generate."""

from __future__ import annotations

import contextlib
import struct
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from e2e.engine import planned
from e2e.engine.backend import Backend, Output
from e2e.engine.error_causes import Printed, root_cause
from e2e.engine.gpu_time import gpu_seconds
from e2e.engine.step_ranges import StepRanges
from e2e.records import Answer, SoloAnswers, Speeds, Started, Trial
from e2e.workload.messages import (
    ComparePass,
    CompareTransformers,
    Describe,
    KeepPass,
    Load,
    Loaded,
    Locate,
    PassKept,
    Replay,
    RunAlone,
    RunTrial,
    StartEngine,
)
from e2e.workload.options import ArmName, Mode, Options
from e2e.workload.prompts import Batch, batch, needles, with_prompt_logprobs
from e2e.workload.trials import STAGGERED, WARM_UP
from kernels_bench.planned.use import PlanUse
from kernels_bench.workers.lifetime import made_to_stay, requests
from kernels_bench.workers.messages import Failure
from profiles.instruments.range_names import ENGINES, EngineRange, phase
from profiles.instruments.ranges import Ranges
from profiles.run_files.record import Record

if TYPE_CHECKING:
    from e2e.engine.offline import Offline

_CATEGORIES = {WARM_UP: "warm-up", STAGGERED: "staggered"}


class Engine:
    """An engine and the prompts of its run.

    Args:
        arm: its name.
        options: what it was given.
        start: starts it.

    Raises:
        Exception: whatever ``start`` raises.
    """

    def __init__(self, arm: ArmName, options: Options, start: Callable[[], Backend]) -> None:
        began = time.perf_counter()
        self._arm, self._options = arm, options
        self._ranges = Ranges(ENGINES)
        with self._ranges.range(phase("start", arm), category="phase"):
            self._backend = start()
        self._steps = StepRanges(self._ranges)
        if self._ranges.recorded:
            self._backend.on_step(self._steps.begin)
        self._init_s = time.perf_counter() - began
        self._plan = self._outcome() if arm == "planned" else None
        if self._plan is not None:  # in what `locate` keeps too
            self._backend.provenance += f", {self._plan.in_words}"
        self._needles = needles(options, self._backend.text, self._backend.vocabulary)

    def _outcome(self) -> PlanUse:
        """What became of the plan; an engine that has answered nothing yet may have computed nothing."""
        self._backend.generate([(0,)])
        return planned.outcome()

    def started(self) -> Started:
        """What came up."""
        return Started(
            arm=self._arm,
            init_s=self._init_s,
            provenance=self._backend.provenance,
            vocabulary=self._backend.vocabulary,
            needles=self._needles,
            plan=self._plan,
        )

    def alone(self) -> SoloAnswers:
        """Every needle as a batch of its own, and once more."""
        with self._ranges.range(phase("alone", self._arm), category="phase"):
            answers = [
                _answer(
                    number,
                    self._backend.generate([needle], (0,) if with_prompt_logprobs(self._options, needle) else ())[0],
                )
                for _ in range(2)
                for number, needle in enumerate(self._needles)
            ]
        self._backend.check_undisturbed()
        return SoloAnswers(arm=self._arm, answers=tuple(answers))

    def trial(self, number: int) -> Trial:
        """One batch; of the arm ``serial`` one sequence at a time."""
        asked = batch(self._options, number, self._needles, self._backend.vocabulary)
        category = _CATEGORIES.get(number, "trial")
        around = EngineRange(category, self._arm, number)
        whole = self._ranges.range(around.message, category=category, payload=len(asked.prompts))
        steps = self._steps.of(around if category == "trial" else None)
        with whole, steps:
            started = time.perf_counter()
            outputs = self._outputs(asked)
            seconds = time.perf_counter() - started
        self._backend.check_undisturbed()
        # A profiler that records this process already has what this one would need.
        wanted = self._options.gpu_time and category == "trial" and not self._ranges.recorded
        busy = gpu_seconds(lambda: self._outputs(asked)) if wanted else None
        return Trial(
            arm=self._arm,
            trial=number,
            batch_size=len(asked.prompts),
            prompt_tokens=sum(len(prompt) for prompt in asked.prompts),
            places=asked.places,
            seconds=seconds,
            tokens=sum(len(output.tokens) for output in outputs),
            answers=tuple(_answer(needle, outputs[place]) for needle, place in enumerate(asked.places)),
            speeds=_speeds(outputs),
            gpu_s=busy,
        )

    def locate(self, request: Locate) -> Record:
        """Where the needle's bits change first."""
        from e2e.locate.search import search

        batches = [batch(self._options, trial, self._needles, self._backend.vocabulary) for trial in request.trials]
        return search(self._looked_into(), self._arm, self._options, self._needles, batches, request)

    def keep(self, request: KeepPass) -> PassKept:
        """The needle alone, as a file."""
        from e2e.locate.against.own_pass import keep

        longest = max(range(len(self._needles)), key=lambda number: len(self._needles[number]))
        number = longest if request.needle is None else request.needle
        subject = self._arm, self._options, number
        keep(self._looked_into(), subject, self._needles[number], Path(request.file), request.modules_only)
        return PassKept()

    def compare(self, request: ComparePass) -> Record:
        """The needle of a kept pass, here."""
        from e2e.locate.against.compare import with_engine

        return with_engine(self._looked_into(), Path(request.file), request.name, put=request.all_causes)

    def _looked_into(self) -> Offline:
        from e2e.engine.offline import Offline
        from e2e.locate.probing.probe import ProbeError

        if not isinstance(self._backend, Offline):
            raise ProbeError("only an engine in this process can be looked into")
        return self._backend

    def answer(self, request: Record) -> Record:
        """What a request asks for."""
        if isinstance(request, RunTrial):
            return self.trial(request.trial)
        if isinstance(request, Locate):
            return self.locate(request)
        if isinstance(request, KeepPass):
            return self.keep(request)
        if isinstance(request, ComparePass):
            return self.compare(request)
        return self.alone() if isinstance(request, RunAlone) else self.started()

    def close(self) -> None:
        """See `Backend.close`."""
        self._backend.close()

    def _outputs(self, asked: Batch) -> list[Output]:
        if asked.at_once < len(asked.prompts):
            return self._backend.generate_staggered(asked.prompts, asked.at_once, asked.watched)
        if self._arm != "serial":
            return self._backend.generate(asked.prompts, asked.watched)
        return [output for prompt in asked.prompts for output in self._backend.generate([prompt])]


def _answer(needle: int, output: Output) -> Answer:
    return Answer(
        needle=needle,
        tokens=output.tokens,
        logprobs=tuple(map(fp32_bits, output.logprobs)),
        prompt=tuple(map(fp32_bits, output.prompt_logprobs)),
    )


def fp32_bits(value: float) -> int:
    """The bits of a number as fp32 has them, as vLLM computes log probabilities."""
    bits: int = struct.unpack("<I", struct.pack("<f", value))[0]
    return bits


def _speeds(outputs: Sequence[Output]) -> Speeds | None:
    """Medians over a batch; None where nobody measured."""
    first = [output.first_token_s for output in outputs if output.first_token_s is not None]
    if not first:
        return None
    between = [output.later_tokens_s / (len(output.tokens) - 1) for output in outputs if len(output.tokens) > 1]
    return Speeds(first_token_ms=1e3 * median(first), output_token_ms=1e3 * median(between) if between else 0.0)


def serve(connection: Connection) -> None:
    """Answer requests until the parent hangs up."""
    engine: Engine | None = None
    for request in requests(connection):
        printed = Printed()
        try:
            if isinstance(request, StartEngine):
                engine = Engine(request.arm, request.options, _starter(request))
            reply = _reply(engine, request)
        except Exception as error:
            reply = Failure(status="failed", reason=root_cause(error, printed.text()))
            sys.excepthook(type(error), error, error.__traceback__)
        connection.send(reply)
    if engine is not None:
        engine.close()


def _load(arm: ArmName, mode: Mode) -> None:
    """Import what takes long: vLLM where the engine will be in this process; what tells of a server's model."""
    with made_to_stay():
        if arm == "server":
            with contextlib.suppress(ImportError):
                from transformers import AutoConfig  # noqa: F401
        elif mode == "offline":
            from vllm import LLM, SamplingParams  # noqa: F401 - vllm itself imports next to nothing


def _starter(request: StartEngine) -> Callable[[], Backend]:
    """What starts the engine; it is imported already, as it is in upstream's script when the clock starts."""
    _load(request.arm, request.options.mode)
    if request.arm == "planned":
        planned.begin()  # vLLM looks for plugins when an engine is made
    if request.arm == "server":
        from e2e.engine.online.client import Client

        assert request.options.server is not None
        return partial(Client, request.options.server, None, request.options)
    if request.options.mode == "online":
        from e2e.engine.online.server import Server

        return partial(Server, request)
    from e2e.engine.offline import Offline

    return partial(Offline, request)


def _reply(engine: Engine | None, request: Record) -> Record:
    """The answer to a request, some of which need no engine."""
    if isinstance(request, Describe):
        from kernels_bench.device.detect import find_device

        return find_device()
    if isinstance(request, Replay):
        from e2e.locate.calls.bound import known, write_plugin
        from e2e.locate.calls.replay import read_call, replayed

        file = Path(request.file)
        call = read_call(file)
        bound = write_plugin(file, call) if request.plugin else None
        return replayed(call).model_copy(update={"bound": bound, "known": known(call)})
    if isinstance(request, CompareTransformers):
        from e2e.locate.against.compare import with_transformers
        from e2e.locate.judging.kept_pass import read_pass

        asked = request.compare
        where = (request.model, request.attention, "cuda" if request.on_gpu else "cpu")
        return with_transformers(read_pass(Path(asked.file)), where, asked.name, put=asked.all_causes)
    if isinstance(request, Load):
        _load(request.arm, request.mode)
        return Loaded()
    if engine is None:
        raise RuntimeError("no engine was started")
    return engine.answer(request)
