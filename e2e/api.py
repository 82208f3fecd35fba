"""From Python: one arm, as upstream's function of the same name."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from e2e.checkpoints.resolve import cache_directory, checkpoint
from e2e.records import RunState, read_state
from e2e.report.speeds import overhead, speeds, verdicts
from e2e.run.processes import Task, describe_device, processes, run_arm
from e2e.workload.arms import check_engine
from e2e.workload.options import ArmName, Options, check, check_backend, known_backends
from e2e.workload.trials import trials_of
from kernels_bench.workers.process import WorkerError
from kernels_bench.workers.scratch import scratch
from profiles.command_line import warn


def run_benchmark_with_batch_invariant(  # noqa: PLR0913, PLR0917 - upstream's signature
    model: str,
    tp_size: int,
    max_batch_size: int,
    num_trials: int,
    min_prompt: int,
    max_prompt: int,
    max_tokens: int,
    temperature: float,
    gpu_mem_util: float,
    max_model_len: int,
    backend: str,
    batch_invariant: bool,
    seed: int = 12345,
) -> dict[str, Any]:
    """Run the needle benchmark with or without batch invariance, in a process of its own.

    Returns:
        ``init_time, avg_time, min_time, max_time, trial_times`` in seconds, ``total_tokens, total_prompts``,
        ``throughput`` in tokens a second, ``prompts_per_sec``, and ``needle``: the needles' verdict.

    Raises:
        OptionsError: an argument that cannot be used.
        WorkerError: the engine does not start, or is lost.

    Source: vLLM's ``benchmarks/benchmark_batch_invariance.py``.
    """
    options = Options(
        model=model,
        tp_size=tp_size,
        batch_size=max_batch_size,
        num_trials=num_trials,
        min_prompt=min_prompt,
        max_prompt=max_prompt,
        max_tokens=max_tokens,
        temperature=temperature,
        gpu_memory_utilization=gpu_mem_util,
        max_model_len=max_model_len,
        backend=backend,
        seed=seed,
    )
    check(options)
    arm: ArmName = "batch-invariant" if batch_invariant else "baseline"
    ledger = _run(arm, options)
    found = speeds(ledger)
    if arm in ledger.lost or arm not in found:
        raise WorkerError(f"{arm}: {ledger.lost[arm].reason if arm in ledger.lost else 'no trial was completed'}")
    return found[arm].model_dump() | {"needle": verdicts(ledger, lambda _: trials_of(options))[arm].model_dump()}


def _run(arm: ArmName, options: Options) -> RunState:
    check_backend(options.backend, known_backends())
    device = describe_device()
    check_engine(device)
    path = checkpoint(options.model, cache_directory(), partial(warn, "e2e"))
    task = Task(arm, path, options, device, trials_of(options))
    with tempfile.TemporaryDirectory(dir=scratch()) as logs, processes([task], Path(logs), lambda _: None) as waiting:
        return read_state(run_arm(task, waiting, timeout_s=3600.0))


def comparison_metrics(baseline: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Overheads and change of throughput of one result beside another, in per cent."""
    return {
        "init_overhead_pct": overhead(baseline["init_time"], other["init_time"]),
        "time_overhead_pct": overhead(baseline["avg_time"], other["avg_time"]),
        "throughput_change_pct": overhead(baseline["throughput"], other["throughput"]),
    }
