"""What every arm must offer, and what it says of GPUs that are not here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels_bench.arms import arms, vllm_invariant
from kernels_bench.cases import Device
from kernels_bench.operators import operators

CPU = Device(type="cpu", name="a CPU")
H100 = Device(type="cuda", name="H100", capability=(9, 0))
A100 = Device(type="cuda", name="A100", capability=(8, 0))
T4 = Device(type="cuda", name="T4", capability=(7, 5))


def test_the_default_arm_comes_first_and_claims_nothing() -> None:
    first = next(iter(arms().values()))
    assert first.name == "torch"
    assert not first.claims


@pytest.mark.parametrize("arm", arms().values(), ids=lambda arm: arm.name)
def test_an_arm_says_what_it_is_and_where_it_cannot_run(arm) -> None:  # noqa: ANN001
    assert arm.summary
    for device in (CPU, H100, A100, T4):
        reason = arm.unavailable(device)
        assert reason is None or len(reason) > 10
    assert arm.caveat(H100) == ""


@pytest.mark.parametrize("name", ["cublas-restricted", "samebits", "vllm"])
def test_below_sm90_every_claiming_arm_says_what_that_means(name: str) -> None:
    assert arms()[name].caveat(A100)


def test_a_gpu_without_bf16_matrix_units_is_refused_by_the_arm_that_needs_them_alone() -> None:
    assert "SM75" in (arms()["samebits"].unavailable(T4) or "")
    assert arms()["torch"].unavailable(T4) is None


def test_arms_announce_known_operators() -> None:
    for arm in arms().values():
        assert arm.offers is None or set(arm.offers) <= set(operators())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("arm", arms().values(), ids=lambda arm: arm.name)
def test_arms_offer_what_they_announce(arm) -> None:  # noqa: ANN001
    if arm.unavailable(H100):
        pytest.skip(arm.unavailable(H100))
    code = f"from kernels_bench.arms import arms; print(*arms()[{arm.name!r}].kernels())"
    words = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **arm.environment}, capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(arm.offers or operators()) <= set(words)


def test_arms_that_run_here_offer_known_operators_only() -> None:
    assert set(arms()["torch"].kernels()) == set(operators())
    assert (
        set(arms()["samebits"].kernels()) == set(arms()["samebits"].offers or ()) == set(operators()) - {"mla_decode"}
    )


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("vllm/model_executor/determinism/batch_invariant.py", "vllm.model_executor.determinism.batch_invariant"),
        ("vllm/model_executor/layers/batch_invariant.py", "vllm.model_executor.layers.batch_invariant"),
        ("vllm/elsewhere.py", None),
    ],
)
def test_the_batch_invariant_module_is_found_by_its_file(
    path: str, found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("vllm/__init__.py", path):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        # Were it imported, which takes vLLM seconds, this would say so.
        (tmp_path / file).write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert vllm_invariant.layout() == found
    reason = vllm_invariant.unavailable(H100)
    assert reason is None if found else "no known batch-invariant module" in str(reason)
