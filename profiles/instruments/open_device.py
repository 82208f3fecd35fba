"""The telemetry of a device of any kind, by its UUID."""

from __future__ import annotations

from profiles.instruments.npu_smi import PREFIX, open_npu
from profiles.instruments.telemetry import Telemetry, open_telemetry


def open_device(uuid: str | None) -> Telemetry:
    """Open it.

    Args:
        uuid: a GPU's, as CUDA gives it; of an NPU `npu_smi.PREFIX` and its number; None for the first GPU.

    Raises:
        TelemetryUnavailable: it cannot be had; the message says why.
    """
    return open_npu(uuid) if uuid is not None and uuid.startswith(PREFIX) else open_telemetry(uuid=uuid)
