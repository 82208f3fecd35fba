"""Which device there is: asked of torch, or of the driver where torch must not be loaded."""

from __future__ import annotations

import os
import platform

from kernels_bench.device.lazy_torch import torch
from kernels_bench.records.cases import Device
from profiles.instruments.environment import read_environment
from profiles.instruments.telemetry import TelemetryUnavailable, open_telemetry

_DRIVERS = ("/dev/nvidiactl", "/dev/dxg")


def find_device() -> Device:
    """The first CUDA device, or the CPU."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        capability = (properties.major, properties.minor)
        return Device(type="cuda", name=properties.name, capability=capability, uuid=str(properties.uuid))
    return Device(type="cpu", name=read_environment().cpu_model or platform.machine())


def expected_gpu() -> Device | None:
    """The first GPU that CUDA would show, as its driver tells of it; None where that cannot be said."""
    if not any(map(os.path.exists, _DRIVERS)):  # then NVML need not be asked, nor loaded
        return None
    try:
        with open_telemetry() as telemetry:
            facts, capability = telemetry.facts(), telemetry.capability()
    except TelemetryUnavailable:
        return None
    if capability is None:
        return None
    return Device(type="cuda", name=facts.name, capability=capability, uuid=facts.uuid.removeprefix("GPU-"))
