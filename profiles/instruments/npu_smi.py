"""Power, temperature and memory of an Ascend NPU, as the command ``npu-smi info`` prints them.

There is no Python package for it; the table is read as the command's manual shows it: two lines a chip, one for its
card and one for itself.  Seen in tests only so far, for want of an NPU.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from typing import NamedTuple

from profiles.instruments.telemetry import DeviceFacts, DeviceState, Telemetry, TelemetryUnavailable

PREFIX = "NPU-"
"""Before a chip's number as torch_npu counts in this process, where a GPU has its UUID."""
VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
FRESH_S = 5.0
"""The command takes up to a second: what it said is kept for so long."""
_LIMIT_S = 20.0

_NUMBER = r"(-?\d+(?:\.\d+)?|NA|-)"
_SHARE = r"(\d+)\s*/\s*(\d+)"
_CARD = re.compile(rf"\|\s*(\d+)\s+(\S[^|]*?)\s*\|\s*(\S+)\s*\|\s*{_NUMBER}\s+{_NUMBER}\s+{_SHARE}\s*\|")
_CHIP = re.compile(rf"\|\s*(\d+)(?:\s+(\d+))?\s*\|\s*(\S+)\s*\|\s*{_NUMBER}\s+{_SHARE}\s+{_SHARE}\s*\|")
_VERSION = re.compile(r"\|\s*npu-smi\s+\S+\s+Version:\s*(\S+)")


class Chip(NamedTuple):
    """What the table tells of one chip; None is what it does not tell.

    Attributes:
        card: its card's number.
        chip: its own within the card.
        name: such as ``910B3``.
        health: such as ``OK``.
        power_w: of its card, in watts.
        temperature_c: in °C.
        bus: address on the PCI bus.
        used_mb: of its high-bandwidth memory, in MB.
        total_mb: likewise.
    """

    card: int
    chip: int
    name: str
    health: str
    power_w: float | None
    temperature_c: int | None
    bus: str
    used_mb: int
    total_mb: int


def read_table(said: str) -> tuple[Chip, ...]:
    """The chips of a table of ``npu-smi info``, in its order; nothing of lines that tell of no chip."""
    return tuple(_chips(said))


def _chips(said: str) -> Iterator[Chip]:
    card: re.Match[str] | None = None
    for line in map(str.strip, said.splitlines()):
        if (found := _CARD.fullmatch(line)) is not None:
            card = found
        elif card is not None and (chip := _CHIP.fullmatch(line)) is not None:
            power, celsius = _number(card[4]), _number(card[5])
            yield Chip(
                card=int(card[1]),
                chip=int(chip[1]),
                name=card[2],
                health=card[3],
                power_w=power,
                temperature_c=None if celsius is None else round(celsius),
                bus=chip[3],
                used_mb=int(chip[7]),
                total_mb=int(chip[8]),
            )
            card = None


def _number(said: str) -> float | None:
    return None if said in ("NA", "-") else float(said)


def read_version(said: str) -> str:
    """The driver's version that a table names; empty where it names none."""
    found = _VERSION.search(said)
    return found[1] if found else ""


class NpuTelemetry(Telemetry):
    """An open view of one chip.

    Args:
        place: the chip's, in the order of the table.
    """

    def __init__(self, place: int) -> None:
        self._place, self._said, self._read_at = place, "", -FRESH_S

    def close(self) -> None:
        """Nothing is held."""

    def state(self) -> DeviceState:
        """Power and temperature; the table tells of no clock, and of nothing that holds it down.

        Raises:
            TelemetryUnavailable: the command fails, or tells of no such chip.
        """
        chip = self._chip()
        return DeviceState(
            sm_clock_mhz=None,
            memory_clock_mhz=None,
            power_w=chip.power_w,
            temperature_c=chip.temperature_c,
            throttle_reasons=None,
        )

    def facts(self) -> DeviceFacts:
        """What the chip is.

        Raises:
            TelemetryUnavailable: as `state`.
        """
        chip = self._chip()
        return DeviceFacts(
            name=chip.name,
            uuid=f"{PREFIX}{chip.card}-{chip.chip}",
            driver_version=read_version(self._said),
            cuda_driver_version="",
            max_sm_clock_mhz=None,
            max_memory_clock_mhz=None,
            power_limit_w=None,
            memory_total_bytes=chip.total_mb << 20,
        )

    def memory(self) -> tuple[int, int]:
        """Bytes of high-bandwidth memory that nobody uses now, and that there are.

        Raises:
            TelemetryUnavailable: as `state`.
        """
        chip = self._chip()
        return (chip.total_mb - chip.used_mb) << 20, chip.total_mb << 20

    def capability(self) -> None:
        """CUDA's alone."""

    def _chip(self) -> Chip:
        if time.monotonic() - self._read_at > FRESH_S:
            self._said, self._read_at = _asked(), time.monotonic()
        chips = read_table(self._said)
        if self._place >= len(chips):
            raise TelemetryUnavailable(f"npu-smi tells of {len(chips)} chips: there is no NPU {self._place}")
        return chips[self._place]


def _asked() -> str:
    try:
        done = subprocess.run(
            ["npu-smi", "info"], capture_output=True, text=True, errors="replace", timeout=_LIMIT_S, check=True
        )
    except FileNotFoundError:
        raise TelemetryUnavailable("npu-smi is not here: it comes with the NPU's driver") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise TelemetryUnavailable(f"npu-smi info fails: {error}") from error
    return done.stdout


def open_npu(uuid: str) -> NpuTelemetry:
    """The telemetry of a chip.

    Args:
        uuid: `PREFIX` and its number as torch_npu counts in this process.

    Raises:
        TelemetryUnavailable: the command is missing, or tells of no such chip.
    """
    index = int(uuid.removeprefix(PREFIX))
    visible = [entry for entry in os.environ.get(VISIBLE, "").split(",") if entry.strip().isdecimal()]
    telemetry = NpuTelemetry(int(visible[index]) if index < len(visible) else index)
    telemetry.state()
    return telemetry
