"""NVIDIA's GPUs."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from kernels_bench.device.kinds.base import Accelerator
from kernels_bench.device.lazy_torch import torch
from kernels_bench.records.cases import Device


class Cuda(Accelerator):
    """``torch.cuda``."""

    type = "cuda"
    made_on = "cuda"
    copies_without_waiting = True

    @property
    def api(self) -> Any:
        """``torch.cuda``."""
        return torch.cuda

    def available(self) -> bool:
        """Whether CUDA finds a GPU."""
        return torch.cuda.is_available()

    def describe(self) -> Device:
        """With its compute capability and UUID."""
        properties = torch.cuda.get_device_properties(0)
        capability = (properties.major, properties.minor)
        return Device(type="cuda", name=properties.name, capability=capability, uuid=str(properties.uuid))

    def new_graph(self) -> Any:
        """A CUDA graph."""
        return torch.cuda.CUDAGraph()

    def forget_capture(self, pool: Any) -> None:
        """Do what ``CUDAGraph::capture_end`` (aten/src/ATen/cuda/CUDAGraph.cpp) may raise before it does.

        Newer sources do it first.  As long as the allocator believes that a capture is underway, it never gives memory
        back.
        """
        device = torch.cuda.current_device()
        with suppress(RuntimeError):  # torch did it
            torch._C._cuda_endAllocateToPool(device, pool)
            torch._C._cuda_releasePool(device, pool)


KIND = Cuda()
