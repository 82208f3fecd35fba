"""A card without a driver."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest


class FakeCard:
    """An H100 as NVML tells of it, in place of the driver's answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = 0
        self.asked_for: list[int | str] = []
        self._monkeypatch = monkeypatch
        self.answer("nvmlInit", lambda: self._count(+1))
        self.answer("nvmlShutdown", lambda: self._count(-1))
        self.answer("nvmlDeviceGetHandleByIndex", self._handle)
        self.answer("nvmlDeviceGetHandleByUUID", self._handle)
        self.answer("nvmlDeviceGetName", lambda card: "NVIDIA H100 80GB HBM3")
        self.answer("nvmlDeviceGetUUID", lambda card: "GPU-ab")
        self.answer("nvmlDeviceGetCudaComputeCapability", lambda card: [9, 0])
        self.answer("nvmlSystemGetDriverVersion", lambda: "580.95.05")
        self.answer("nvmlSystemGetCudaDriverVersion", lambda: 13000)
        self.answer("nvmlDeviceGetPowerUsage", lambda card: 312_500)
        self.answer("nvmlDeviceGetPowerManagementLimit", lambda card: 700_000)
        self.answer("nvmlDeviceGetTemperature", lambda card, sensor: 41)
        self.answer("nvmlDeviceGetCurrentClocksEventReasons", lambda card: 0x5)
        self.answer("nvmlDeviceGetMemoryInfo", lambda card: SimpleNamespace(total=85_520_809_984, free=80_000_000_000))
        clocks_mhz = {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 2619}
        self.answer("nvmlDeviceGetClockInfo", lambda card, clock: clocks_mhz[clock])
        self.answer("nvmlDeviceGetMaxClockInfo", lambda card, clock: clocks_mhz[clock])

    def answer(self, query: str, reply: Any) -> None:
        self._monkeypatch.setattr(pynvml, query, reply)

    def refuse(self, query: str, code: int) -> None:
        def raise_error(*_: object) -> None:
            raise pynvml.NVMLError(code)

        self.answer(query, raise_error)

    def _count(self, step: int) -> None:
        self.opened += step

    def _handle(self, wanted: int | str) -> object:
        self.asked_for.append(wanted)
        return object()
