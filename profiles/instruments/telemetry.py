"""Clocks, power, temperature and throttle reasons of an NVIDIA GPU, read through NVML.

Everything here only reads: a benchmark never changes the card's settings. NVML needs neither CUDA nor a GPU
context, so a process that must not initialise CUDA may use it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from profiles.installing import pip_install


class TelemetryUnavailable(RuntimeError):  # noqa: N818 - it reads as the fact it states
    """No telemetry can be read; the message says in one line why."""


class _Reason(NamedTuple):
    bit: int
    name: str
    slows: bool


# nvmlClocksEventReason* and nvmlClocksThrottleReason* of nvml.h, in the order of their bits.
_REASONS = (
    _Reason(0x001, "gpu_idle", slows=False),
    _Reason(0x002, "applications_clocks_setting", slows=False),
    _Reason(0x004, "sw_power_cap", slows=True),
    _Reason(0x008, "hw_slowdown", slows=True),
    _Reason(0x010, "sync_boost", slows=True),
    _Reason(0x020, "sw_thermal_slowdown", slows=True),
    _Reason(0x040, "hw_thermal_slowdown", slows=True),
    _Reason(0x080, "hw_power_brake_slowdown", slows=True),
    _Reason(0x100, "display_clock", slows=True),
    _Reason(0x200, "board_limit", slows=False),
    _Reason(0x400, "reliability", slows=False),
)
_NAMES = {reason.bit: reason.name for reason in _REASONS}
_SLOWING = frozenset(reason.name for reason in _REASONS if reason.slows)


def decode_throttle_reasons(mask: int) -> tuple[str, ...]:
    """The names of the bits of NVML's mask of clocks event reasons, lowest bit first.

    A bit that is not known here is kept as `unknown_0x…`.

    Raises:
        ValueError: The mask is negative.
    """
    if mask < 0:
        raise ValueError(f"a mask of throttle reasons is never negative: {mask}")
    bits = (1 << position for position in range(mask.bit_length()))
    return tuple(_NAMES.get(bit, f"unknown_{bit:#x}") for bit in bits if mask & bit)


def decode_cuda_version(version: int) -> str:
    """CUDA's version number, 1000 · major + 10 · minor, as text: 13000 is "13.0", 12090 is "12.9"."""
    return f"{version // 1000}.{version % 1000 // 10}"


def visible_device(index: int, visible: str | None) -> int | str:
    """What CUDA's device `index` is to NVML: NVML's index, or a UUID.

    Numbers agree with CUDA's if all cards are alike or `CUDA_DEVICE_ORDER=PCI_BUS_ID`: CUDA otherwise counts
    the fastest card first. A UUID, as CUDA itself gives it, is always exact.

    Args:
        index: The device's number within the process, from 0.
        visible: The value of `CUDA_VISIBLE_DEVICES`, None where it is not set.

    Raises:
        TelemetryUnavailable: CUDA would not see such a device.
    """
    if visible is None:
        return index
    entries = [entry.strip() for entry in visible.split(",")]
    # CUDA ignores everything from the first entry on that names no device.
    names = entries[: next((i for i, entry in enumerate(entries) if not _names_device(entry)), None)]
    if not 0 <= index < len(names):
        raise TelemetryUnavailable(f"CUDA_VISIBLE_DEVICES={visible} hides GPU {index}")
    name = names[index]
    return int(name) if name.isdecimal() else name


def _names_device(entry: str) -> bool:
    return entry.isdecimal() or entry.startswith(("GPU-", "MIG-"))


class DeviceState(BaseModel):
    """What a card does at one moment. None is what the card, or its driver, does not tell.

    Attributes:
        sm_clock_mhz: The clock of the multiprocessors, in MHz.
        memory_clock_mhz: The clock of the memory, in MHz.
        power_w: The board's power in watts; from Ampere on (but the A100) averaged over the last second.
        temperature_c: The temperature of the die, in °C.
        throttle_reasons: Everything that holds the clock below its maximum now, by `decode_throttle_reasons`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    power_w: float | None
    temperature_c: int | None
    throttle_reasons: tuple[str, ...] | None

    @property
    def slowed(self) -> tuple[str, ...] | None:
        """The throttle reasons that slow a kernel: neither idleness nor a clock that somebody chose."""
        if self.throttle_reasons is None:
            return None
        return tuple(reason for reason in self.throttle_reasons if reason in _SLOWING)


class DeviceFacts(BaseModel):
    """What a card is and how it is set. None is what the card, or its driver, does not tell.

    Attributes:
        name: The product's name, as "NVIDIA H100 80GB HBM3".
        uuid: The card's own identity, as "GPU-…" (or "MIG-…"); of an NPU "NPU-CARD-CHIP".
        driver_version: As "580.95.05".
        cuda_driver_version: The newest CUDA that the driver supports, as "13.0"; empty for an NPU.
        max_sm_clock_mhz: The highest clock of the multiprocessors, in MHz.
        max_memory_clock_mhz: The highest clock of the memory, in MHz.
        power_limit_w: The power limit that is set, in watts.
        memory_total_bytes: The card's memory, in bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    uuid: str
    driver_version: str
    cuda_driver_version: str
    max_sm_clock_mhz: int | None
    max_memory_clock_mhz: int | None
    power_limit_w: float | None
    memory_total_bytes: int | None


class Telemetry:
    """An open view of one card, from `open_telemetry`; a context manager that closes it.

    A reading costs about 2 µs of NVML a field; NVML itself renews most fields only every few milliseconds.
    """

    def __init__(self, nvml: Any, device: Any) -> None:
        self._nvml = nvml
        self._device = device
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of NVML. A second call does nothing; a reading afterwards raises."""
        if self._open:
            self._open = False
            self._nvml.nvmlShutdown()

    def state(self) -> DeviceState:
        """What the card does now.

        Raises:
            TelemetryUnavailable: The card is lost, or this view is closed.
        """
        nvml = self._nvml
        with self._answering():
            power_mw = self._read(nvml.nvmlDeviceGetPowerUsage)
            reasons = self._read(nvml.nvmlDeviceGetCurrentClocksEventReasons)
            return DeviceState(
                sm_clock_mhz=self._read(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
                memory_clock_mhz=self._read(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
                power_w=None if power_mw is None else power_mw / 1000,
                temperature_c=self._read(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
                throttle_reasons=None if reasons is None else decode_throttle_reasons(reasons),
            )

    def facts(self) -> DeviceFacts:
        """What the card is.

        Raises:
            TelemetryUnavailable: The card is lost, or this view is closed.
        """
        nvml, device = self._nvml, self._device
        with self._answering():
            limit_mw = self._read(nvml.nvmlDeviceGetPowerManagementLimit)
            memory = self._read(nvml.nvmlDeviceGetMemoryInfo)
            return DeviceFacts(
                name=nvml.nvmlDeviceGetName(device),
                uuid=nvml.nvmlDeviceGetUUID(device),
                driver_version=nvml.nvmlSystemGetDriverVersion(),
                cuda_driver_version=decode_cuda_version(nvml.nvmlSystemGetCudaDriverVersion()),
                max_sm_clock_mhz=self._read(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM),
                max_memory_clock_mhz=self._read(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_MEM),
                power_limit_w=None if limit_mw is None else limit_mw / 1000,
                memory_total_bytes=None if memory is None else memory.total,
            )

    def memory(self) -> tuple[int, int] | tuple[None, None]:
        """Bytes of the card's memory that nobody uses now, and that it has; None where it does not say.

        Raises:
            TelemetryUnavailable: The card is lost, or this view is closed.
        """
        with self._answering():
            found = self._read(self._nvml.nvmlDeviceGetMemoryInfo)
            return (None, None) if found is None else (int(found.free), int(found.total))

    def capability(self) -> tuple[int, int] | None:
        """The card's CUDA compute capability, such as (9, 0).

        Raises:
            TelemetryUnavailable: The card is lost, or this view is closed.
        """
        with self._answering():
            found = self._read(self._nvml.nvmlDeviceGetCudaComputeCapability)
            return None if found is None else (int(found[0]), int(found[1]))

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Tell in our own words what keeps the card from answering."""
        if not self._open:
            raise TelemetryUnavailable("this telemetry was closed")
        try:
            yield
        except self._nvml.NVMLError as error:
            raise TelemetryUnavailable(f"the NVIDIA driver answers: {error}") from error

    def _read(self, query: Callable[..., Any], *arguments: Any) -> Any:
        """The answer of a query about the card, or None if this card or driver does not give it."""
        nvml = self._nvml
        try:
            return query(self._device, *arguments)
        except (
            nvml.NVMLError_NotSupported,
            nvml.NVMLError_NoPermission,
            nvml.NVMLError_FunctionNotFound,
        ):
            return None


def open_telemetry(index: int = 0, *, uuid: str | None = None) -> Telemetry:
    """Open the telemetry of one card.

    Args:
        index: The card's number as CUDA counts in this process, read with `CUDA_VISIBLE_DEVICES`
            (see `visible_device` for when that is exact).
        uuid: The card's UUID instead, with or without "GPU-"; exact in any case. In torch it is
            `str(torch.cuda.get_device_properties(0).uuid)`.

    Raises:
        TelemetryUnavailable: pynvml or the driver is missing, or no such card can be reached.
    """
    wanted = visible_device(index, os.environ.get("CUDA_VISIBLE_DEVICES")) if uuid is None else _with_prefix(uuid)
    try:
        import pynvml
    except ImportError:
        raise TelemetryUnavailable(f"pynvml is missing: {pip_install('nvidia-ml-py')}") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise TelemetryUnavailable(_why_no_driver(pynvml, error)) from error
    try:
        return Telemetry(pynvml, _find_device(pynvml, wanted))
    except BaseException:
        pynvml.nvmlShutdown()
        raise


def _with_prefix(uuid: str) -> str:
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


def _why_no_driver(nvml: Any, error: Any) -> str:
    reasons = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver here (libnvidia-ml.so.1 is not found)",
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is installed but not loaded",
        nvml.NVML_ERROR_NO_PERMISSION: "no permission to read the NVIDIA driver (/dev/nvidia*)",
    }
    return reasons.get(error.value, f"the NVIDIA driver answers: {error}")


def _find_device(nvml: Any, wanted: int | str) -> Any:
    """NVML's handle of the card with this index or UUID."""
    try:
        if isinstance(wanted, int):
            return nvml.nvmlDeviceGetHandleByIndex(wanted)
        return nvml.nvmlDeviceGetHandleByUUID(wanted)
    except nvml.NVMLError as error:
        raise TelemetryUnavailable(f"GPU {wanted} cannot be reached: {error}") from error
