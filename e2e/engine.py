"""The process of one arm: a real vLLM engine, and what it is asked to generate."""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

from e2e.prompts import NEEDLE_TEXT, WARM_UP, Batch, batch, needles
from e2e.protocol import Describe, RunAlone, RunTrial, StartEngine
from e2e.records import Alone, Answer, Speeds, Started, Trial
from kernels_bench.cases import Device, Record, printable
from kernels_bench.protocol import Failure
from profiles.ranges import Ranges

Prompt = tuple[int, ...]


class Engine:
    """A vLLM engine and the prompts of its run.

    Args:
        request: what to start.

    Raises:
        Exception: whatever vLLM raises where the engine does not start.
    """

    def __init__(self, request: StartEngine) -> None:
        started = time.perf_counter()
        import vllm

        self._arm, self._options = request.arm, request.options
        self._ranges = Ranges("e2e")
        with self._ranges.range(f"start/{request.arm}", category="phase"):
            self._llm: Any = vllm.LLM(**_arguments(request))
        self._init_s = time.perf_counter() - started
        self._version: str = vllm.__version__
        config = self._llm.llm_engine.vllm_config
        self._vocabulary = int(config.model_config.get_vocab_size())
        self._needles = needles(self._options, _text(self._llm, config), self._vocabulary)
        self._sampling: Any = vllm.SamplingParams(
            temperature=self._options.temperature,
            top_p=0.95 if self._options.temperature > 0 else 1.0,
            max_tokens=self._options.max_tokens,
            seed=20240919 if self._options.temperature > 0 else None,
            ignore_eos=self._options.ignore_eos,
            logprobs=0,
            detokenize=False,
        )

    def started(self) -> Started:
        """What came up."""
        config = self._llm.llm_engine.vllm_config
        return Started(
            arm=self._arm,
            init_s=self._init_s,
            provenance=f"vLLM {self._version}, {_facts(config)}",
            vocabulary=self._vocabulary,
            needles=self._needles,
        )

    def alone(self) -> Alone:
        """Every needle as a batch of its own, and once more."""
        with self._ranges.range(f"alone/{self._arm}", category="phase"):
            answers = [
                answer
                for _ in range(2)
                for number, needle in enumerate(self._needles)
                for answer in [_answer(number, self._generate([needle])[0])]
            ]
        return Alone(arm=self._arm, answers=tuple(answers))

    def trial(self, number: int) -> Trial:
        """One batch; of the arm ``serial`` one sequence at a time."""
        asked = batch(self._options, number, self._needles, self._vocabulary)
        category = "warm-up" if number == WARM_UP else "trial"
        with self._ranges.range(f"{category}/{self._arm}/{number}", category=category, payload=len(asked.prompts)):
            started = time.perf_counter()
            outputs = self._outputs(asked)
            seconds = time.perf_counter() - started
        return Trial(
            arm=self._arm,
            trial=number,
            batch_size=len(asked.prompts),
            prompt_tokens=sum(len(prompt) for prompt in asked.prompts),
            places=asked.places,
            seconds=seconds,
            tokens=sum(len(output.outputs[0].token_ids) for output in outputs),
            answers=tuple(_answer(needle, outputs[place]) for needle, place in enumerate(asked.places)),
            speeds=_speeds(outputs),
        )

    def _outputs(self, asked: Batch) -> list[Any]:
        if self._arm != "serial":
            return self._generate(asked.prompts)
        return [output for prompt in asked.prompts for output in self._generate([prompt])]

    def _generate(self, prompts: Sequence[Prompt]) -> list[Any]:
        given = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        outputs: list[Any] = self._llm.generate(given, self._sampling, use_tqdm=False)
        return outputs


def _arguments(request: StartEngine) -> dict[str, Any]:
    """What vLLM is told."""
    options = request.options
    chosen: dict[str, Any] = {
        "model": request.model,
        "max_num_seqs": options.batch_size,
        "max_model_len": options.max_model_len,
        "dtype": "bfloat16",
        "tensor_parallel_size": options.tp_size,
        "enable_prefix_caching": options.prefix_caching,
        "enforce_eager": options.eager,
        "seed": 0,
        "disable_log_stats": False,
    }
    if options.chunked_prefill is not None:
        chosen["enable_chunked_prefill"] = options.chunked_prefill
    if request.on_gpu:
        chosen["gpu_memory_utilization"] = options.gpu_memory_utilization
        if options.backend is not None:
            chosen["attention_config"] = {"backend": options.backend}
    return chosen


def _text(llm: Any, config: Any) -> list[int] | None:
    """The upstream script's needle; None where the model has no tokenizer."""
    if config.model_config.skip_tokenizer_init:
        return None
    tokens: list[int] = llm.get_tokenizer().encode(NEEDLE_TEXT)
    return tokens


def _facts(config: Any) -> str:
    """What was decided for the engine, in words."""
    backend = config.attention_config.backend
    eager = config.model_config.enforce_eager
    return ", ".join(
        (
            f"attention {backend.name if backend is not None else 'of its own choice'}",
            "eager" if eager else "compiled",
            f"prefix caching {'on' if config.cache_config.enable_prefix_caching else 'off'}",
            f"chunked prefill {'on' if config.scheduler_config.enable_chunked_prefill else 'off'}",
        )
    )


def _answer(needle: int, output: Any) -> Answer:
    said = output.outputs[0]
    logprobs = [step[token].logprob for token, step in zip(said.token_ids, said.logprobs, strict=True)]
    return Answer(needle=needle, tokens=tuple(said.token_ids), logprobs=tuple(map(fp32_bits, logprobs)))


def fp32_bits(value: float) -> int:
    """The bits of a number as fp32 has them, as vLLM computes log probabilities."""
    bits: int = struct.unpack("<I", struct.pack("<f", value))[0]
    return bits


def _speeds(outputs: Sequence[Any]) -> Speeds | None:
    """Medians over a batch; None where the engine kept no metrics."""
    kept = [(output.metrics, len(output.outputs[0].token_ids)) for output in outputs if output.metrics is not None]
    if not kept:
        return None
    between = [(m.last_token_ts - m.first_token_ts) / (count - 1) for m, count in kept if count > 1]
    return Speeds(
        first_token_ms=1e3 * median(m.first_token_latency for m, _ in kept),
        output_token_ms=1e3 * median(between) if between else 0.0,
    )


def find_device() -> Device:
    """The first CUDA device, or the CPU."""
    from kernels_bench.worker import find_device as found

    return found()


def serve(connection: Connection) -> None:
    """Answer requests until the parent hangs up."""
    engine: Engine | None = None
    while True:
        try:
            request = connection.recv()
        except (EOFError, OSError):
            return
        try:
            if isinstance(request, StartEngine):
                engine = Engine(request)
            reply = _reply(engine, request)
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)
            reply = Failure(status="failed", reason=_first_line(error))
        connection.send(reply)


def _reply(engine: Engine | None, request: Record) -> Record:
    if isinstance(request, Describe):
        return find_device()
    if engine is None:
        raise RuntimeError("no engine was started")
    if isinstance(request, RunTrial):
        return engine.trial(request.trial)
    return engine.alone() if isinstance(request, RunAlone) else engine.started()


def _first_line(error: BaseException) -> str:
    lines = (printable(line) for line in str(error).splitlines())
    return f"{type(error).__name__}: {next((line for line in lines if line), 'no reason was given')}"
