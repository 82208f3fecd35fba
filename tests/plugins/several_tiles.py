"""Candidates of an arm: two of one order, one of another, one that changes its tile with M, and others that fail.

Each of those fails in a way of its own: it raises, does not load, hangs, crashes when it is first called or only when
it is timed, is wrong, gives NaN, or does not repeat.
"""

import itertools
import os
import sys
import time
from collections.abc import Callable, Mapping

import torch

from kernels_bench.arms import Arm, Candidate, Device, Kernel

FEW = 8


def mean(x: torch.Tensor, rows: int, parts: int = 1) -> torch.Tensor:
    """Means of so many rows at once, terms one after the other in so many parts of a row."""
    out = torch.empty(len(x), dtype=torch.float32)
    for start in range(0, len(x), rows):
        chunk = x[start : start + rows].float()
        sums = []
        for part in chunk.tensor_split(parts, 1):
            total = torch.zeros(len(chunk), dtype=torch.float32)
            for column in part.unbind(1):
                total += column
            sums.append(total)
        whole = torch.zeros(len(chunk), dtype=torch.float32)
        for total in sums:
            whole += total
        out[start : start + rows] = whole
    return (out / x.shape[1]).to(x.dtype)


def by_rows(x: torch.Tensor) -> torch.Tensor:
    """The planted fault: two parts for few rows, one for many."""
    return mean(x, 64, 2 if len(x) < FEW else 1)


def raises(x: torch.Tensor) -> torch.Tensor:
    """As a tile that does not fit."""
    raise RuntimeError("out of resource: shared memory")


def hangs(x: torch.Tensor) -> torch.Tensor:
    """As a kernel that waits for a block that never comes."""
    time.sleep(3600)
    return mean(x, 64)


def crashes(x: torch.Tensor) -> torch.Tensor:
    """As one that reads what is not there."""
    os.abort()


def crashes_timed(x: torch.Tensor) -> torch.Tensor:
    """The same only where it is timed in turns with others."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_filename.endswith("timed_case.py"):
            os.abort()
    return mean(x, 64)


def wrong(x: torch.Tensor) -> torch.Tensor:
    """Faster than all that are right."""
    return x[:, 0].clone()


def gives_nan(x: torch.Tensor) -> torch.Tensor:
    """Likewise."""
    return torch.full((len(x),), float("nan"), dtype=x.dtype)


CALLS = itertools.count()


def unsteady(x: torch.Tensor) -> torch.Tensor:
    """Right to the last bit, which is another one in every sixteenth call."""
    return x.mean(1) * (1 + (next(CALLS) % 16 == 15) * 2.0**-20)


def does_not_load() -> Mapping[str, Kernel]:
    """As a tile whose module is not there."""
    raise ImportError("no such tile")


def of(kernel: Kernel, order: str) -> Candidate:
    """A candidate for `mean` alone."""
    kernels: Callable[[], Mapping[str, Kernel]] = lambda: {"mean": kernel}  # noqa: E731 - one line says it
    return Candidate(kernels, offers=("mean",), order=order)


def candidates(device: Device) -> Mapping[str, Candidate]:
    """By label."""
    return {
        "rows16": of(lambda x: mean(x, 16), "in one part"),
        "rows64": of(lambda x: mean(x, 64), "in one part"),
        "parts2": of(lambda x: mean(x, 64, 2), "2 parts"),
        "by_rows": of(by_rows, "by M"),
        "raises": of(raises, "never"),
        "hangs": of(hangs, "in one part"),
        "crashes": of(crashes, "in one part"),
        "crashes_timed": of(crashes_timed, "in one part"),
        "wrong": of(wrong, "in one part"),
        "gives_nan": of(gives_nan, "in one part"),
        "unsteady": of(unsteady, "in one part"),
        "no_kernels": Candidate(does_not_load, offers=("mean",), order="never"),
        "fp16": Candidate(lambda: {"mean": lambda x: mean(x, 64)}, offers=("mean",), dtypes=("fp16",)),
    }


ARM = Arm(
    name="tiled",
    kernels=lambda: {"mean": lambda x: mean(x, 1)},
    candidates=candidates,
    lacking=lambda device: "without tiles of 128, which need another library",
    offers=("mean",),
)
