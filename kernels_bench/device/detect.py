"""Which device there is: asked of torch, or of the driver where torch must not be loaded."""

from __future__ import annotations

import os
import sys

from kernels_bench.device.kinds import cpu
from kernels_bench.device.kinds.known import kind_here
from kernels_bench.records.cases import Device
from profiles.instruments.telemetry import TelemetryUnavailable, open_telemetry

NVIDIA_DRIVERS = ("/dev/nvidiactl", "/dev/dxg")
"""Of these one is there where a process can use an NVIDIA GPU."""
OTHER_DRIVERS = ("/dev/davinci_manager", "/dev/kfd")
"""Likewise an Ascend NPU, or an AMD GPU."""


def find_device() -> Device:
    """The first accelerator, or the CPU."""
    return kind_here().describe()


def no_driver_here() -> bool:
    """Whether there is no accelerator's driver, so that torch need not be asked for one; only Linux can tell."""
    return sys.platform == "linux" and not any(map(os.path.exists, (*NVIDIA_DRIVERS, *OTHER_DRIVERS)))


def processor() -> Device:
    """The CPU."""
    return cpu.KIND.describe()


def expected_gpu() -> Device | None:
    """The first GPU that CUDA would show, as its driver tells of it; None where that cannot be said."""
    if not any(map(os.path.exists, NVIDIA_DRIVERS)):  # then NVML need not be asked, nor loaded
        return None
    try:
        with open_telemetry() as telemetry:
            facts, capability = telemetry.facts(), telemetry.capability()
    except TelemetryUnavailable:
        return None
    if capability is None:
        return None
    return Device(type="cuda", name=facts.name, capability=capability, uuid=facts.uuid.removeprefix("GPU-"))
