"""An arm whose kernel fails in every way that keeps a result from being looked at; K chooses the way."""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from kernels_bench.arms import Arm


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return F.rms_norm(x, (x.shape[1],), weight, eps)


def raise_with_controls(x: torch.Tensor, good: torch.Tensor) -> object:
    raise RuntimeError("no such tile \x1b[31m[/red]\a\nand a second line")


def raise_nothing(x: torch.Tensor, good: torch.Tensor) -> object:
    raise ValueError


def hang(x: torch.Tensor, good: torch.Tensor) -> object:
    while True:
        time.sleep(1)


def kill_itself(x: torch.Tensor, good: torch.Tensor) -> object:
    os.kill(os.getpid(), signal.SIGKILL)
    return good


def exit_at_once(x: torch.Tensor, good: torch.Tensor) -> object:
    os._exit(7)


def segfault(x: torch.Tensor, good: torch.Tensor) -> object:
    return ctypes.string_at(0)


def exit_politely(x: torch.Tensor, good: torch.Tensor) -> object:
    atexit.register(time.sleep, 0.3)  # as torch's own teardown may take
    sys.exit("the kernel asked to end")


def allocate_too_much(x: torch.Tensor, good: torch.Tensor) -> object:
    return torch.empty(1 << 50)


def raise_memory_error(x: torch.Tensor, good: torch.Tensor) -> object:
    return bytearray(1 << 60)


def print_much(x: torch.Tensor, good: torch.Tensor) -> object:
    print("chatter " * 20_000)
    print("noise " * 20_000, file=sys.stderr)
    return good


def leave_a_child_behind(x: torch.Tensor, good: torch.Tensor) -> object:
    subprocess.Popen(["sleep", "600"])
    return good


FAULTS: dict[int, Callable[[torch.Tensor, torch.Tensor], object]] = {
    64: lambda x, good: good,
    65: raise_with_controls,
    66: raise_nothing,
    67: kill_itself,
    68: lambda x, good: good[:, :-1],
    69: exit_at_once,
    70: lambda x, good: good.double(),
    71: segfault,
    72: lambda x, good: good.to("meta"),
    73: exit_politely,
    74: lambda x, good: (good, good),
    75: hang,
    76: lambda x, good: None,
    77: allocate_too_much,
    78: raise_memory_error,
    79: print_much,
    80: leave_a_child_behind,
}


def faulty(x: torch.Tensor, weight: torch.Tensor, eps: float) -> object:
    return FAULTS[x.shape[1]](x, rms_norm(x, weight, eps))


ARM = Arm(name="failing", kernels=lambda: {"rms_norm": faulty}, summary="fails as K says")
