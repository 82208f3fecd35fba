"""The processor, where nothing is launched and memory is the machine's."""

from __future__ import annotations

import platform

from kernels_bench.device.kinds.base import DeviceKind
from kernels_bench.records.cases import Device
from profiles.instruments.environment import read_environment


class Cpu(DeviceKind):
    """Always there."""

    type = "cpu"
    made_on = "cpu"

    def available(self) -> bool:
        """It is."""
        return True

    def describe(self) -> Device:
        """By the processor's name."""
        return Device(type="cpu", name=read_environment().cpu_model or platform.machine())

    def synchronise(self) -> None:
        """Nothing is underway."""

    def free_bytes(self) -> float:
        """None of its own."""
        return 0.0

    def reserved_bytes(self) -> int:
        """None of its own."""
        return 0

    def allocated_bytes(self) -> int:
        """None of its own."""
        return 0

    def give_back(self) -> None:
        """Nothing is held."""


KIND = Cpu()
