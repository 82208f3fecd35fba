"""What the device can do at most, measured in the same run: large streams and large matrix products."""

from __future__ import annotations

import statistics
from collections.abc import Collection
from functools import partial

import torch

from kernels_bench.records.cases import scale_of
from kernels_bench.records.results import Ceiling
from kernels_bench.timing.meter import Call, Stopwatch

_BUFFER_BYTES = {"cuda": 1 << 30, "cpu": 1 << 27}
_EDGE = {"cuda": 8192, "cpu": 768}
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def measure_ceiling(stopwatch: Stopwatch, device: torch.device, inputs: Collection[str]) -> Ceiling:
    """The faster of reading and copying a large buffer, and a square product in each dtype, on random data.

    Args:
        stopwatch: the device's.
        device: what is measured.
        inputs: short names of dtypes; a product in 16 bits may take a CPU half a second, and is needed for no others.
    """
    source = torch.randn(_BUFFER_BYTES[scale_of(device.type)] // 4, device=device)
    target = torch.empty_like(source)
    # Arithmetic kernels: inside a graph a plain copy would go to the copy engines, which are slower.
    copy_us = _best_us(stopwatch, partial(torch.neg, source, out=target))
    read_us = _best_us(stopwatch, partial(torch.sum, source))
    size = source.numel() * source.element_size()
    del source, target
    return Ceiling(
        bandwidth_gb_s=max(2 * size / copy_us, size / read_us) / 1e3,
        tflop_s={name: _product(stopwatch, device, name) for name in _DTYPES if name in inputs},
    )


def _product(stopwatch: Stopwatch, device: torch.device, name: str) -> float:
    # fp32 without TF32 runs on the ordinary cores, sixteen times slower on an H100: a smaller product will do.
    edge = _EDGE[scale_of(device.type)] // (2 if name == "fp32" else 1)
    a, b = (torch.randn(edge, edge, dtype=_DTYPES[name], device=device) for _ in range(2))
    return 2 * edge**3 / _best_us(stopwatch, partial(torch.mm, a, b)) / 1e6


def _best_us(stopwatch: Stopwatch, call: Call) -> float:
    """The lower quartile of a few samples: a ceiling is what the device does when nothing disturbs it."""
    call()
    meter = stopwatch.warm(call, stopwatch.estimate_us(call))
    samples = [us for _ in range(2) for us, _ in meter.take(rest=True)]
    return statistics.quantiles(samples, n=4)[0]
