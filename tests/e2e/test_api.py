"""The needle benchmark as a function."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from e2e import run_benchmark_with_batch_invariant
from e2e.workload.options import OptionsError


def test_a_backend_is_checked_where_the_device_leaves_no_choice_too(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(registry))
    # Another test of this process may have imported the installed one, which would be found before any path.
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    with pytest.raises(OptionsError, match="it has FLASH_ATTN, C2"):
        run_benchmark_with_batch_invariant("smollm2", 1, 6, 1, 8, 20, 4, 0.0, 0.4, 64, "XFORMERS", False)


def test_the_function_has_upstreams_signature() -> None:
    import inspect

    names = list(inspect.signature(run_benchmark_with_batch_invariant).parameters)
    assert names == [
        *("model", "tp_size", "max_batch_size", "num_trials", "min_prompt", "max_prompt", "max_tokens"),
        *("temperature", "gpu_mem_util", "max_model_len", "backend", "batch_invariant", "seed"),
    ]
    assert inspect.signature(run_benchmark_with_batch_invariant).parameters["seed"].default == 12345
