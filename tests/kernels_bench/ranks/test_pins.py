"""Variables that engines set for NCCL: those of the engine that is installed, and what its arms say of themselves."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from kernels_bench.arms import Unsupported, arms
from kernels_bench.arms.base import claims_of
from kernels_bench.arms.ranks.kernels import Collective, Groups
from kernels_bench.arms.ranks.nccl import VLLM_NEWER
from kernels_bench.arms.vllm.batch_invariant import LAYOUTS, layout
from kernels_bench.records.cases import Device, claimed


def pins_of(function: ast.FunctionDef) -> dict[str, str]:
    """Every ``NCCL_*`` that a function sets, by assignment or in a literal that it hands on."""
    found = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            found[ast.literal_eval(node.targets[0].slice)] = ast.literal_eval(node.value)
        if isinstance(node, ast.Dict):
            found |= ast.literal_eval(node)
    return {name: value for name, value in found.items() if name.startswith("NCCL_")}


@pytest.mark.skipif(layout() != LAYOUTS[0], reason="needs vLLM 0.32 or 0.33")
def test_the_pins_are_those_that_the_installed_vllm_sets() -> None:
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent.parent / f"{LAYOUTS[0].replace('.', '/')}.py"
    (function,) = (
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "override_envs_for_invariance"
    )
    assert pins_of(function) == VLLM_NEWER


def test_of_several_gpus_arms_nobody_but_samebits_claims_another_tp_size() -> None:
    offering = {name: arm for name, arm in arms().items() if "row_parallel_linear" in (arm.offers or ())}
    assert {name for name, arm in offering.items() if claimed(claims_of(arm), "batch_size")} == {
        "samebits", "vllm-custom-1stage"
    }  # fmt: skip
    assert [name for name, arm in offering.items() if claimed(claims_of(arm), "tensor_parallel")] == ["samebits"]


def test_messages_of_which_nothing_is_promised_are_refused() -> None:
    kernel = Collective(Groups(), "never:called", whole_bytes=16)
    with pytest.raises(Unsupported, match=r"a row of 2006 bytes is no multiple of 16"):
        kernel(torch.ones(2, 4, 1003, dtype=torch.bfloat16))


def test_an_older_vllms_own_all_reduce_is_not_called_its_batch_invariant_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves messages of 8 MiB and more to NCCL, which adds in another order: no vLLM promises anything of that."""
    arm, h200 = arms()["vllm-custom-1stage"], Device(type="cuda", name="NVIDIA H200", capability=(9, 0))
    folder = tmp_path / "vllm" / "distributed" / "device_communicators"
    folder.mkdir(parents=True)
    (tmp_path / "vllm" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    for text, lacking in (("max_size = 8192 * 1024", True), ("return self.batch_invariant or small", False)):
        (folder / "custom_all_reduce.py").write_text(text)
        assert bool(arm.unavailable(h200)) is lacking
    assert arms()["vllm-custom"].unavailable(h200) is None
