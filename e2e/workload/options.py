"""What a run is asked for: flags, the upstream script's environment variables, and its defaults.

Source: vLLM's ``benchmarks/benchmark_batch_invariance.py``, whose variables, defaults and meanings are kept.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field

from profiles.errors import CommandError
from profiles.run_files.record import Record

PREFIX = "VLLM_BENCH_"
MOST_TRIALS = 1_000_000
ArmName = Literal["baseline", "batch-invariant", "planned", "serial", "server"]
Mode = Literal["offline", "online"]
ARMS: tuple[ArmName, ...] = get_args(ArmName)


class OptionsError(CommandError):
    """An option that cannot be used; the message says which values can."""


def _usual_needles(options: Mapping[str, Any]) -> int:
    """Many, since trials alone show little: what a prefill does to a needle is mostly the same in every one of them."""
    size: int = options.get("batch_size", 1)
    return max(1, min(8, size // 4))


class Options(Record):
    """Everything that decides what an engine is given, and how.

    Attributes:
        model: a name or path that vLLM takes, ``smollm2``, or ``synthetic:PRESET``.
        tp_size: GPUs that share the model.
        batch_size: sequences in a trial's batch, at most; at least half as many.  In one of 1, which upstream
            takes too, the needle is alone: that can be timed, and shows nothing.
        num_trials: trials.
        min_prompt: fewest tokens of a filler's prompt.
        max_prompt: most tokens of a filler's prompt.
        max_tokens: tokens generated for every prompt.
        temperature: of sampling; 0 is greedy.
        gpu_memory_utilization: share of the GPU's memory that the engine takes.
        max_model_len: most tokens of a sequence, prompt and answer.
        backend: vLLM's attention backend; None leaves it to vLLM.
        seed: of prompts, batches and places.
        needles: sequences that are compared, in every trial; usually a quarter of a batch, and at most 8.
        eager: no compilation and no CUDA graphs.
        prefix_caching: whether the engine reuses the cache of equal prefixes.
        chunked_prefill: whether long prefills are cut; None leaves it to vLLM.
        mode: ``offline``: vLLM as a library; ``online``: a server on loopback and a client for every sequence.
        server: where a server listens that is running already; None where there is none to check.
        ignore_eos: every answer has all its tokens, so that arms generate as many.
        interleave: the arms' engines are up together and run each trial in turn, so that a machine whose speed drifts
            costs all of them alike; a command decides it by `e2e.workload.room` where the user does not.
        gpu_time: whether every timed trial is run once more under torch's profiler, see `e2e.engine.gpu_time`.
        plan: of the arm ``planned``: a plan's file by its absolute path, or ``default``, which is none: each shape has
            one kernel at every M; None where that arm is not run.
    """

    model: str = "Qwen/Qwen3-1.7B"
    tp_size: int = 1
    batch_size: int = 128
    num_trials: int = 5
    min_prompt: int = 1024
    max_prompt: int = 2048
    max_tokens: int = 128
    temperature: float = 0.0
    gpu_memory_utilization: float = 0.4
    max_model_len: int = 5120
    backend: str | None = "FLASH_ATTN"
    seed: int = 12345
    needles: int = Field(default_factory=_usual_needles)
    eager: bool = False
    prefix_caching: bool = False
    chunked_prefill: bool | None = None
    mode: Mode = "offline"
    server: str | None = None
    ignore_eos: bool = True
    interleave: bool = False
    gpu_time: bool = False
    plan: str | None = None


# The upstream variable's name without its prefix, and how its text is read.
VARIABLES: dict[str, tuple[str, type]] = {
    "MODEL": ("model", str),
    "TP_SIZE": ("tp_size", int),
    "BATCH_SIZE": ("batch_size", int),
    "NUM_TRIALS": ("num_trials", int),
    "MIN_PROMPT": ("min_prompt", int),
    "MAX_PROMPT": ("max_prompt", int),
    "MAX_TOKENS": ("max_tokens", int),
    "TEMPERATURE": ("temperature", float),
    "GPU_MEMORY_UTILIZATION": ("gpu_memory_utilization", float),
    "MAX_MODEL_LEN": ("max_model_len", int),
    "BACKEND": ("backend", str),
}


def read_options(flags: Mapping[str, object], environment: Mapping[str, str]) -> Options:
    """Flags override variables, which override defaults; a flag that was not given is None.

    Raises:
        OptionsError: a value that cannot be used.
    """
    chosen: dict[str, object] = {}
    for name, (field, kind) in VARIABLES.items():
        text = environment.get(PREFIX + name)
        if text is not None:
            try:
                chosen[field] = kind(text)
            except ValueError:
                what = "a whole number" if kind is int else "a number"
                raise OptionsError(f"{PREFIX}{name}={text}: expected {what}") from None
    chosen |= {field: value for field, value in flags.items() if value is not None}
    options = Options.model_validate(chosen)
    check(options)
    return options


def check(options: Options) -> None:
    """See that the options make sense together.

    Raises:
        OptionsError: they do not.
    """
    o = options
    rules = (
        (
            o.server is None or re.match(r"https?://[^/\s]+", o.server) is not None,
            f"--server {o.server}: expected an address such as http://127.0.0.1:8000",
        ),
        (o.tp_size >= 1, f"--tp-size {o.tp_size}: expected at least 1"),
        (o.needles >= 1, f"--needles {o.needles}: expected at least 1"),
        (
            o.batch_size > o.needles or o.batch_size == o.needles == 1,
            f"--batch-size {o.batch_size}: expected more than the number of needles, {o.needles}",
        ),
        (1 <= o.num_trials <= MOST_TRIALS, f"--num-trials {o.num_trials}: expected 1 to {MOST_TRIALS}"),
        (1 <= o.min_prompt <= o.max_prompt, f"--min-prompt {o.min_prompt}: expected 1 to --max-prompt {o.max_prompt}"),
        (o.max_tokens >= 1, f"--max-tokens {o.max_tokens}: expected at least 1"),
        (0 <= o.temperature < math.inf, f"--temperature {o.temperature:g}: expected 0 (greedy) or more"),
        (0 < o.gpu_memory_utilization <= 1, f"--gpu-memory-utilization {o.gpu_memory_utilization:g}: expected 0 to 1"),
        (
            o.max_prompt + o.max_tokens <= o.max_model_len,
            f"--max-model-len {o.max_model_len}: expected at least --max-prompt {o.max_prompt} and --max-tokens "
            f"{o.max_tokens} together, which is {o.max_prompt + o.max_tokens}",
        ),
        (
            not (o.gpu_time and (o.mode == "online" or o.server is not None or o.tp_size > 1)),
            "--gpu-time: only an engine in one process can be recorded; leave out --mode online, --server, --tp-size",
        ),
        (
            not (o.gpu_time and o.prefix_caching),
            "--gpu-time: a batch that is answered again would be answered from the cache; leave out --prefix-caching",
        ),
    )
    for holds, message in rules:
        if not holds:
            raise OptionsError(message)


def check_backend(backend: str | None, known: tuple[str, ...]) -> None:
    """See that the installed vLLM has a backend.

    Raises:
        OptionsError: it does not; the message lists those it has.
    """
    if backend is not None and known and backend not in known:
        raise OptionsError(f"--backend {backend}: the installed vLLM has none of that name; it has {', '.join(known)}")


def known_backends() -> tuple[str, ...]:
    """Attention backends that the installed vLLM names, read off its registry's text since importing it takes seconds.

    Empty where there is no vLLM, or its registry is elsewhere.
    """
    found = importlib.util.find_spec("vllm")
    roots = (found.submodule_search_locations or ()) if found is not None else ()
    for root in roots:
        registry = Path(root) / "v1" / "attention" / "backends" / "registry.py"
        if registry.is_file():
            body = (
                registry.read_text(encoding="utf-8")
                .partition("class AttentionBackendEnum(")[2]
                .partition("\nclass ")[0]
            )
            return tuple(re.findall(r"^    ([A-Z][A-Z0-9_]*) = ", body, re.MULTILINE))
    return ()
