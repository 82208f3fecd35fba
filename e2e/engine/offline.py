"""vLLM as a library: ``LLM.generate``, as the upstream script calls it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

from e2e.engine.backend import Output, Prompt, has_tokenizer, sampling
from e2e.engine.step_ranges import OnStep, watch
from e2e.workload.messages import StartEngine
from e2e.workload.prompts import NEEDLE_TEXT


class Offline:
    """An engine in this process; see `e2e.engine.worker.Backend`.

    Attributes:
        packed: weights by what oneDNN's packed ones are known by, see `e2e.locate.calls.capture.remember_onednn`.

    Raises:
        Exception: whatever vLLM raises where the engine does not start.
    """

    def __init__(self, request: StartEngine) -> None:
        from vllm import LLM, SamplingParams, __version__
        from vllm.sampling_params import RequestOutputKind

        options = request.options
        self.packed: dict[int, Any] = {}
        if request.looked_into:
            from e2e.locate.calls.capture import remember_onednn

            self.packed = remember_onednn()
        self._llm: Any = LLM(**_arguments(request))
        config = self._llm.llm_engine.vllm_config
        self.provenance = f"vLLM {__version__}, {_facts(config)}"
        self.vocabulary = int(config.model_config.get_vocab_size())
        self.text = None if config.model_config.skip_tokenizer_init else self._llm.get_tokenizer().encode(NEEDLE_TEXT)
        self._sampling: tuple[Any, Any] = tuple(
            SamplingParams(logprobs=0, prompt_logprobs=wanted, detokenize=False, **sampling(options))
            for wanted in (None, 0)
        )
        self._streamed = RequestOutputKind.CUMULATIVE

    @property
    def engine(self) -> Any:
        """vLLM's own engine."""
        return self._llm.llm_engine

    def on_step(self, begin: OnStep) -> None:
        """Announce every step of the engine; see `e2e.engine.step_ranges.watch`."""
        watch(self._llm.llm_engine.engine_core.engine_core.scheduler, begin)

    def check_undisturbed(self) -> None:
        """Nothing: an engine in this process answers nobody else."""

    def close(self) -> None:
        """Nothing: the engine is part of this process."""

    def generate(self, prompts: Sequence[Prompt], watched: Collection[int] = ()) -> list[Output]:
        """Answer all prompts at once."""
        given = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        how = [self._sampling[number in watched] for number in range(len(prompts))]
        return [_output(found) for found in self._llm.generate(given, how, use_tqdm=False)]

    def generate_staggered(
        self, prompts: Sequence[Prompt], at_once: int, watched: Collection[int] = ()
    ) -> list[Output]:
        """Answer prompts of which each after the first ``at_once`` comes when the one before it has its first token."""
        engine = self._llm.llm_engine
        outputs: dict[int, Output] = {}
        coming = deque(enumerate(prompts))
        for _ in range(at_once):
            newest = self._add(*coming.popleft(), watched)
        while engine.has_unfinished_requests():
            found = {one.request_id: one for one in engine.step()}
            outputs |= {int(name): _output(one) for name, one in found.items() if one.finished}
            if newest in found and coming:
                newest = self._add(*coming.popleft(), watched)
        return [outputs[number] for number in range(len(prompts))]

    def _add(self, number: int, prompt: Prompt, watched: Collection[int]) -> str:
        """Have the engine take a prompt up in its next step."""
        name = str(number)
        given = {"type": "token", "prompt_token_ids": list(prompt)}
        how = self._sampling[number in watched].clone()
        how.output_kind = self._streamed  # LLM.generate has them tell of whole answers only
        self._llm.llm_engine.add_request(name, given, how)
        return name


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
    if not has_tokenizer(request.model):
        chosen["skip_tokenizer_init"] = True
    if request.on_gpu:
        chosen["gpu_memory_utilization"] = options.gpu_memory_utilization
        if options.backend is not None:
            chosen["attention_config"] = {"backend": options.backend}
        if request.looked_into and not options.eager:
            # In a graph of the whole model nothing is seen; it is cut at its attention for other steps in any case.
            chosen["compilation_config"] = {"cudagraph_mode": "PIECEWISE"}
    return chosen


def _facts(config: Any) -> str:
    """What was decided for the engine, in words."""
    backend = config.attention_config.backend
    mode, ranks = config.compilation_config.cudagraph_mode, config.parallel_config.tensor_parallel_size
    parts = mode is not None and mode.name == "PIECEWISE"
    compiled = "compiled, CUDA graphs of its parts alone" if parts else "compiled"
    return ", ".join(
        (
            f"attention {backend.name if backend is not None else 'of its own choice'}",
            "eager" if config.model_config.enforce_eager else compiled,
            f"prefix caching {'on' if config.cache_config.enable_prefix_caching else 'off'}",
            f"chunked prefill {'on' if config.scheduler_config.enable_chunked_prefill else 'off'}",
            *([f"over {ranks} ranks"] if ranks > 1 else []),
        )
    )


def _output(found: Any) -> Output:
    """What vLLM gives for a sequence: tokens, log probabilities, times."""
    said, metrics = found.outputs[0], found.metrics
    logprobs = tuple(step[token].logprob for token, step in zip(said.token_ids, said.logprobs, strict=True))
    prompt = tuple(
        step[token].logprob
        for token, step in zip(found.prompt_token_ids, found.prompt_logprobs or (), strict=False)
        if step
    )
    if metrics is None:
        return Output(tuple(said.token_ids), logprobs, prompt_logprobs=prompt)
    later = metrics.last_token_ts - metrics.first_token_ts
    return Output(tuple(said.token_ids), logprobs, metrics.first_token_latency, later, prompt)
