"""Kinds of device: which is found, and what an NPU's does with torch_npu as far as its sources tell."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest
import torch

from kernels_bench.device.detect import find_device
from kernels_bench.device.kinds import base, cpu, cuda, npu
from kernels_bench.device.kinds.known import KINDS, accelerator, kind_here, kind_of
from kernels_bench.device.memory import release_cached_memory, synchronise
from kernels_bench.records.cases import scale_of


def test_the_first_kind_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda.Cuda, "available", lambda _: False)
    monkeypatch.setattr(npu.Npu, "available", lambda _: False)
    assert kind_here() is cpu.KIND
    assert find_device().type == "cpu"
    with pytest.raises(RuntimeError, match="no accelerator"):
        accelerator()
    monkeypatch.setattr(npu.Npu, "available", lambda _: True)
    assert accelerator() is npu.KIND
    monkeypatch.setattr(cuda.Cuda, "available", lambda _: True)
    assert accelerator() is cuda.KIND


@pytest.mark.skipif(importlib.util.find_spec("torch_npu") is not None, reason="torch_npu is installed")
def test_without_torch_npu_no_npu_is_looked_for() -> None:
    assert not npu.KIND.available()


def test_a_cpu_has_nothing_to_wait_for_and_nothing_to_give_back() -> None:
    host = torch.device("cpu")
    synchronise(host)
    release_cached_memory(host)
    assert kind_of("cpu").free_bytes() == kind_of("cpu").reserved_bytes() == kind_of("cpu").allocated_bytes() == 0


def test_an_npu_is_of_a_gpus_scale_and_its_rows_are_made_where_there_is_float64() -> None:
    assert {one.type: scale_of(one.type) for one in KINDS} == {"cuda": "cuda", "npu": "cuda", "cpu": "cpu"}
    assert {one.type: one.made_on for one in KINDS} == {"cuda": "cuda", "npu": "cpu", "cpu": "cpu"}


def test_all_that_is_asked_of_an_accelerator_torch_has_under_these_names() -> None:
    """As torch_npu has them too, which mirrors ``torch.cuda``."""
    source = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in (base, cuda, npu))
    named = {
        node.attr
        for node in ast.walk(ast.parse(source.replace("from __future__ import annotations", "")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "api"
    }
    assert {"synchronize", "Event", "stream", "mem_get_info"} <= named
    assert not [name for name in named - {"NPUGraph"} if not hasattr(torch.cuda, name)]
