"""The parent process loads no torch: it would cost every command seconds, and a GPU its memory."""

from __future__ import annotations

import subprocess
import sys

from support import ROOT
from support.processes import LIMIT_S, environment

WITHOUT_TORCH = """
import sys
from kernels_bench.records.cases import Device
from kernels_bench.workers.catalogue import catalogue
from kernels_bench.commands.workload import make_workload
from kernels_bench.records.selection import Selection
h100 = Device(type="cuda", name="NVIDIA H100 80GB HBM3", capability=(9, 0), uuid="0-1-2")
for selection in (Selection(), Selection(quick=True), Selection(op=("attention", "gemm"))):
    plan = make_workload(catalogue(h100), selection)
    assert plan.cases and {"torch", "samebits", "cublas-restricted"} <= {arm.name for arm in plan.arms}
print(sorted({"torch", "triton", "vllm", "pynvml"} & set(sys.modules)))
"""


def test_catalogue_and_plan_of_a_gpu_need_no_torch() -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_neither_module_imports_torch() -> None:
    modules = "kernels_bench.report.terminal.render, kernels_bench.report.summary.summarise"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
