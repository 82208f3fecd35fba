"""vllm-ascend's own Triton kernels, fetched as a user would fetch them, under Triton's interpreter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels_bench.arms import arms
from kernels_bench.arms.ascend import source
from kernels_bench.records.cases import Device

ARM = arms()["ascend-triton"]
CPU = Device(type="cpu", name="a CPU")

# Prints, of every kernel: the largest error of 18 rows against float64, and whether each row has the same bits among
# the first 1 and 17 rows, or why it is not to be had.
CHECK = """
import json
import torch
from kernels_bench.arms import arms, Unsupported
from kernels_bench.arms.ascend import source

torch.manual_seed(0)
M, N, K = 18, 96, 192
kernels = arms()["ascend-triton"].kernels()
found = {}
for name, dtype in (
    *[(name, dtype) for name in ("mm", "addmm", "bmm", "rms_norm", "softmax") for dtype in ("float32", "bfloat16")],
    ("mean", "float32"), ("mean", "bfloat16"), ("linear", "float32"), ("linear", "bfloat16"),
):
    as_dtype = getattr(torch, dtype)
    x = torch.randn(M, K).to(as_dtype)
    w, bias, gain = (torch.randn(*size).to(as_dtype) for size in ((K, N), (N,), (K,)))
    wide = x.double()
    call, exact = {
        "mm": (lambda x: kernels["mm"](x, w), wide @ w.double()),
        "addmm": (lambda x: kernels["addmm"](bias, x, w), wide @ w.double() + bias.double()),
        "bmm": (lambda x: kernels["bmm"](x[None], w[None])[0], wide @ w.double()),
        "linear": (lambda x: kernels["linear"](x, w.t().contiguous()), wide @ w.double()),
        "rms_norm": (lambda x: kernels["rms_norm"](x, gain, 1e-6),
                     torch.nn.functional.rms_norm(wide, (K,), gain.double(), 1e-6)),
        "softmax": (kernels["softmax"], torch.softmax(wide, -1)),
        "mean": (kernels["mean"], wide.mean(-1)),
    }[name]
    try:
        rows = call(x)
        alike = all(torch.equal(call(x[:m]), rows[:m]) for m in (1, 17))
        error = ((rows.double() - exact).abs() / exact.abs().clamp(min=1)).max().item()
        found[f"{name} {dtype}"] = {"error": error, "alike": alike}
    except Unsupported as reason:
        found[f"{name} {dtype}"] = str(reason)
print(json.dumps({"found": found, "version": source.version()}))
"""


@pytest.fixture(scope="module")
def vllm_ascend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as docs/ascend.md has a user unpack it."""
    folder = tmp_path_factory.mktemp("vllm-ascend")
    words = [str(folder) if word == "vllm-ascend" else word for word in source.FETCH]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", *words],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"vllm-ascend cannot be fetched here: {done.stderr[-200:]}")
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="Triton has no build for this system")
def test_their_kernels_run_as_they_are_and_treat_rows_alike(vllm_ascend: Path) -> None:
    pytest.importorskip("triton")
    environment = os.environ | dict(ARM.environment) | {source.VARIABLE: str(vllm_ascend), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", CHECK], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    assert said["version"] == source.VERSION
    found = said["found"]
    refused = {name: said for name, said in found.items() if isinstance(said, str)}
    assert {name: ("power" in why, "bf16" in why) for name, why in refused.items()} == {
        "mean bfloat16": (False, True),
        "linear float32": (True, False),
        "linear bfloat16": (False, True),
    }
    for name, said in found.items():
        if name not in refused:
            assert said["alike"], name
            assert said["error"] < (2**-7 if name.endswith("bfloat16") else 1e-5), (name, said["error"])


def test_without_its_source_the_arm_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.delenv(source.VARIABLE, raising=False)
    assert f"vllm-ascend=={source.VERSION}; then set {source.VARIABLE}=" in str(ARM.unavailable(CPU))
    monkeypatch.setenv(source.VARIABLE, str(tmp_path))
    assert "pip install" in str(ARM.unavailable(CPU))
    (tmp_path / source.FOLDER).mkdir(parents=True)
    (tmp_path / source.FOLDER / "matmul.py").touch()
    assert ARM.unavailable(CPU) is None
    assert "without an accelerator" in str(ARM.unavailable(Device(type="cuda", name="H100", capability=(9, 0))))


def test_of_ascend_the_file_is_loaded_and_vllm_is_not(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    (tmp_path / source.FOLDER).mkdir(parents=True)
    for package in ("vllm_ascend", "vllm_ascend/ops", "vllm"):
        (tmp_path / package).mkdir(exist_ok=True)
        (tmp_path / package / "__init__.py").write_text("raise AssertionError('imported')")
    (tmp_path / source.FOLDER / "matmul.py").write_text("from vllm.triton_utils import tl, triton\nFOUND = 7\n")
    code = "from kernels_bench.arms.ascend.source import kernel_file; print(kernel_file('matmul').FOUND)"
    environment = os.environ | {source.VARIABLE: str(tmp_path), "PYTHONPATH": os.pathsep.join(["", str(tmp_path)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "7\n", done.stderr
