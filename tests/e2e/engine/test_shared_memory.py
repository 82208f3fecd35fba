"""Shared memory of engines is freed, however they end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from e2e.run.processes import engine_process
from e2e.workload.messages import Load, Loaded
from kernels_bench.workers.process import WorkerProcess
from support import ROOT
from support.processes import wait_until

# As vLLM's workers do: the engine makes it, and a process of its own has it too.
ENGINE_WITH_SHARED_MEMORY = """
import os, time
from multiprocessing import get_context, shared_memory

LLM = SamplingParams = None
found = shared_memory.SharedMemory(create=True, size=1 << 20)
if __name__ == "vllm":
    get_context("fork").Process(target=time.sleep, args=(600,)).start()
    with open(os.environ["NAME"], "w") as file:
        file.write(found.name)
"""


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory has no names here")
def test_shared_memory_of_an_engine_is_freed_at_the_normal_end_of_its_arm(tmp_path: Path) -> None:
    """Though its processes are killed then, and Python's resource tracker would be with them."""
    (tmp_path / "vllm.py").write_text(ENGINE_WITH_SHARED_MEMORY)
    variables = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "NAME": str(tmp_path / "name")}
    with engine_process("baseline", variables, tmp_path / "log") as worker:
        assert isinstance(worker, WorkerProcess)
        assert isinstance(worker.ask(Load(arm="baseline", mode="offline"), 60), Loaded), (tmp_path / "log").read_text()
        file = Path("/dev/shm") / (tmp_path / "name").read_text()
        assert file.exists()
    assert wait_until(lambda: not file.exists())
