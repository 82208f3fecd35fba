"""What could be run is known without torch, and to the parent just as to a worker."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from test_cli import environment

from kernels_bench import deferred
from kernels_bench.catalogue import catalogue
from kernels_bench.results import Selection
from kernels_bench.session import catalogue_of

WITHOUT_TORCH = """
import sys
from kernels_bench.cases import Device
from kernels_bench.catalogue import catalogue
from kernels_bench.plan import make_plan
from kernels_bench.results import Selection
h100 = Device(type="cuda", name="NVIDIA H100 80GB HBM3", capability=(9, 0), uuid="0-1-2")
for selection in (Selection(), Selection(quick=True), Selection(op=("attention", "gemm"))):
    plan = make_plan(catalogue(h100), selection)
    assert plan.cases and {"torch", "samebits", "cublas-restricted"} <= {arm.name for arm in plan.arms}
print(sorted({"torch", "triton", "vllm", "pynvml"} & set(sys.modules)))
"""


def test_catalogue_and_plan_of_a_gpu_need_no_torch() -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_a_worker_says_what_is_expected_of_its_device() -> None:
    found = catalogue_of(Selection())
    assert found == catalogue(found.device)


def test_deferred_torch_is_torch() -> None:
    assert deferred.torch.Tensor is torch.Tensor
    assert deferred.F.linear is torch.nn.functional.linear
    assert deferred.torch.cuda is torch.cuda


def test_what_was_looked_at_once_is_kept() -> None:
    assert deferred.torch.mm is torch.mm
    assert vars(deferred.torch)["mm"] is torch.mm


def test_what_torch_lacks_the_deferred_one_lacks_too() -> None:
    with pytest.raises(AttributeError, match="no_such_function"):
        deferred.torch.no_such_function  # noqa: B018
