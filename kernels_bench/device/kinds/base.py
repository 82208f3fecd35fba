"""What a kind of device is to everything that runs on it: one file a kind implements this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from kernels_bench.device.lazy_torch import torch
from kernels_bench.records.cases import Device, DeviceType


class DeviceKind(ABC):
    """A kind of device.

    Attributes:
        type: torch's name of it.
        made_on: the type of device on which rows, weights and references are made: its own, unless it lacks the
            64-bit arithmetic for it.
        copies_without_waiting: whether a copy from pinned memory waits for nothing.
    """

    type: ClassVar[DeviceType]
    made_on: ClassVar[DeviceType]
    copies_without_waiting: ClassVar[bool] = False

    @abstractmethod
    def available(self) -> bool:
        """Whether torch can use one here."""

    @abstractmethod
    def describe(self) -> Device:
        """The first one."""

    @abstractmethod
    def synchronise(self) -> None:
        """Wait for the device."""

    @abstractmethod
    def free_bytes(self) -> float:
        """Of the device's memory that nobody uses; 0 where that is main memory."""

    @abstractmethod
    def reserved_bytes(self) -> int:
        """Of the device's memory that torch holds, used or not."""

    @abstractmethod
    def allocated_bytes(self) -> int:
        """Of the device's memory that tensors take."""

    @abstractmethod
    def give_back(self) -> None:
        """Give back what torch holds and no tensor takes."""


class Accelerator(DeviceKind):
    """A device with streams, events and graphs, behind a module of torch's that has ``torch.cuda``'s names."""

    @property
    @abstractmethod
    def api(self) -> Any:
        """That module."""

    @abstractmethod
    def new_graph(self) -> Any:
        """An empty graph, with ``capture_begin``, ``capture_end`` and ``replay``."""

    @abstractmethod
    def forget_capture(self, pool: Any) -> None:
        """Have torch's allocator forget a capture that failed, into the memory pool of this handle."""

    def describe(self) -> Device:
        """The first one, by its name."""
        return Device(type=self.type, name=str(self.api.get_device_name(0)))

    def synchronise(self) -> None:
        """Wait for the device."""
        self.api.synchronize()

    def free_bytes(self) -> float:
        """As the driver says."""
        return float(self.api.mem_get_info()[0])

    def reserved_bytes(self) -> int:
        """By torch's caching allocator."""
        return int(self.api.memory_reserved())

    def allocated_bytes(self) -> int:
        """By torch's caching allocator."""
        return int(self.api.memory_allocated())

    def give_back(self) -> None:
        """Empty the cache of torch's allocator."""
        self.api.empty_cache()

    def event(self) -> Any:
        """An event that tells the time."""
        return self.api.Event(enable_timing=True)

    def on(self, stream: Any) -> AbstractContextManager[None]:
        """A context in which kernels go to a stream."""
        entered: AbstractContextManager[None] = self.api.stream(stream)
        return entered

    def hold(self, cycles: int) -> None:
        """Occupy the stream for a number of cycles without touching memory."""
        self.api._sleep(cycles)  # torch's own tests rely on it; there is no public name for it

    def torch_device(self) -> torch.device:
        """As torch takes it."""
        return torch.device(self.type)
