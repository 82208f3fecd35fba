"""What a server leaves when it is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support.e2e_runs import runs
from support.processes import environment, wait_until

SERVER_WITH_SHARED_MEMORY = """
import sys, time
from multiprocessing import Process, shared_memory

found = shared_memory.SharedMemory(create=True, size=1 << 20)
Process(target=time.sleep, args=(600,)).start()
print(found.name, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory has no names here")
def test_shared_memory_of_a_server_that_is_killed_is_freed(tmp_path: Path) -> None:
    """Though vLLM's own processes are killed with it, as at the end of every arm."""
    server = tmp_path / "vllm" / "entrypoints" / "openai" / "api_server.py"
    server.parent.mkdir(parents=True)
    server.write_text(SERVER_WITH_SHARED_MEMORY)
    (tmp_path / "vllm" / "__init__.py").write_text("LLM = None")
    with subprocess.Popen(
        [sys.executable, "-m", "e2e.engine.online.serve", str(os.getpid())],
        env={**environment(), "PYTHONPATH": f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        children = psutil.Process(process.pid).children(recursive=True)
        assert (Path("/dev/shm") / name).exists()
        process.kill()
    assert len(children) == 2  # its child, and who watches over both; who frees is nobody's child
    assert wait_until(lambda: not (Path("/dev/shm") / name).exists())
    assert wait_until(lambda: not any(map(runs, children)))
