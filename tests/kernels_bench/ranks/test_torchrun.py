"""Ranks that torchrun started: told over the network, lost as others are; and once by torchrun itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from subprocess import Popen

import pytest
import torch

from kernels_bench.arms import Unsupported
from kernels_bench.arms.ranks.kernels import library_kernels
from kernels_bench.operators.layers.ranks import split
from kernels_bench.ranks.across import NOTE, VARIABLE, store_at
from kernels_bench.ranks.group import RankLost
from kernels_bench.ranks.torchrun import _started
from support.processes import environment, wait_until

LOOPBACK = "127.0.0.1"
pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="places are Linux's")


def test_what_ranks_are_given_and_give_goes_over_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_at(LOOPBACK, 0, serving=True)
    monkeypatch.setenv(VARIABLE, f"{LOOPBACK} {store.port} 2")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    started: list[Popen[bytes]] = []

    def as_torchruns_processes_do() -> None:
        wait_until(lambda: store.check([f"{NOTE}/1"]))
        note = json.loads(store.get(f"{NOTE}/1"))
        started.extend(_started(note, 1, rank, LOOPBACK, store.port) for rank in range(note["ranks"]))

    thread = threading.Thread(target=as_torchruns_processes_do)
    thread.start()
    kernels = library_kernels()
    try:
        for m in (1, 3):
            x = torch.randn(m, 2, 8)
            assert torch.equal(kernels["all_reduce"](x), x.sum(1))
            assert torch.equal(kernels["reduce_scatter"](x), x.sum(1))
        weight = torch.randn(5, 16)
        expected = x.flatten(1) @ weight.t()
        assert torch.allclose(kernels["row_parallel_linear"](split(x.flatten(1), 2), weight), expected, atol=1e-5)
        with pytest.raises(Unsupported, match=r"^4 ranks need as many of torchrun's, which started 2$"):
            kernels["all_reduce"](torch.ones(1, 4, 8))
        os.kill(started[1].pid, signal.SIGKILL)
        started[1].wait()
        with pytest.raises(RankLost, match=r"^rank [01]: "):  # rank 0 may complain first: nobody tells who ended
            kernels["all_reduce"](x)
        assert started[0].wait(30) == 0  # it was hung up on
    finally:
        thread.join()
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.long
def test_torchrun_runs_the_command_over_its_ranks(tmp_path: Path) -> None:
    words = "--op all_reduce --arm samebits --shapes 2x64 --dtype fp32 --batch 1,4 --relation repeat,batch_size"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"),
            *("--rdzv-endpoint", f"{LOOPBACK}:0", "-m", "kernels_bench.ranks.torchrun", *words.split()),
            *("--verify-only", "--partial", "--out", str(tmp_path / "run")),
        ],
        env=environment() | {"GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "every arm that claims batch invariance kept" in done.stdout
