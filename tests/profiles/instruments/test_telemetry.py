"""Telemetry: decoding is exact, absence is told, and what a card does not give is None."""

import re
import sys
import timeit
from collections.abc import Iterator

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.installing import pip_install
from profiles.instruments.telemetry import (
    DeviceFacts,
    DeviceState,
    Telemetry,
    TelemetryUnavailable,
    decode_cuda_version,
    decode_throttle_reasons,
    open_telemetry,
    visible_device,
)
from support.fake_nvml import FakeCard

KNOWN = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock",
    0x200: "board_limit",
    0x400: "reliability",
}
masks = st.integers(0, 2**64 - 1)


def state(mask: int | None) -> DeviceState:
    return DeviceState(
        sm_clock_mhz=1980,
        memory_clock_mhz=2619,
        power_w=312.5,
        temperature_c=41,
        throttle_reasons=None if mask is None else decode_throttle_reasons(mask),
    )


@given(masks)
def test_every_bit_is_decoded_in_order_and_none_invented(mask: int) -> None:
    bits = [1 << i for i in range(64) if mask >> i & 1]
    assert decode_throttle_reasons(mask) == tuple(KNOWN.get(bit, f"unknown_{bit:#x}") for bit in bits)


def test_known_bits_are_those_of_pynvml() -> None:
    named = {
        value
        for name, value in vars(pynvml).items()
        if name.startswith(("nvmlClocksEventReason", "nvmlClocksThrottleReason")) and not name.endswith(("All", "None"))
    }
    assert named <= KNOWN.keys()


def test_negative_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        decode_throttle_reasons(-1)


@given(masks)
def test_slowed_holds_exactly_what_slows_a_kernel(mask: int) -> None:
    assert state(mask).slowed == decode_throttle_reasons(mask & 0x1FC)


def test_unknown_reasons_are_not_none_at_all() -> None:
    assert state(0).slowed == ()
    assert state(None).slowed is None


@given(st.integers(1, 99), st.integers(0, 9))
def test_cuda_version(major: int, minor: int) -> None:
    assert decode_cuda_version(1000 * major + 10 * minor) == f"{major}.{minor}"


@given(masks | st.none())
def test_state_survives_json(mask: int | None) -> None:
    assert DeviceState.model_validate_json(state(mask).model_dump_json()) == state(mask)


@given(st.integers(0, 15))
def test_all_devices_are_visible_without_the_variable(index: int) -> None:
    assert visible_device(index, None) == index


@given(st.lists(st.integers(0, 15), min_size=1))
def test_visible_devices_are_renumbered(numbers: list[int]) -> None:
    visible = ",".join(map(str, numbers))
    assert [visible_device(i, visible) for i in range(len(numbers))] == numbers


@pytest.mark.parametrize(
    ("index", "visible", "device"),
    [(0, " 3 , 5", 3), (1, "3, GPU-ab", "GPU-ab"), (0, "MIG-ab", "MIG-ab")],
)
def test_visible_device_by_number_or_uuid(index: int, visible: str, device: int | str) -> None:
    assert visible_device(index, visible) == device


@pytest.mark.parametrize(("index", "visible"), [(0, ""), (0, "-1"), (1, "0,-1,2"), (2, "0,1"), (-1, "0,1")])
def test_hidden_device_is_told(index: int, visible: str) -> None:
    with pytest.raises(TelemetryUnavailable, match=f"CUDA_VISIBLE_DEVICES={visible} hides GPU {index}"):
        visible_device(index, visible)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeCard:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return FakeCard(monkeypatch)


def test_compute_capability(card: FakeCard) -> None:
    with open_telemetry() as telemetry:
        assert telemetry.capability() == (9, 0)
        card.refuse("nvmlDeviceGetCudaComputeCapability", pynvml.NVML_ERROR_NOT_SUPPORTED)
        assert telemetry.capability() is None


def test_state_and_facts_in_their_units(card: FakeCard) -> None:
    with open_telemetry() as telemetry:
        assert telemetry.state() == state(0x5)
        assert telemetry.facts() == DeviceFacts(
            name="NVIDIA H100 80GB HBM3",
            uuid="GPU-ab",
            driver_version="580.95.05",
            cuda_driver_version="13.0",
            max_sm_clock_mhz=1980,
            max_memory_clock_mhz=2619,
            power_limit_w=700.0,
            memory_total_bytes=85_520_809_984,
        )


@pytest.mark.parametrize(
    "code",
    [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND],
)
def test_what_a_card_does_not_give_is_none(card: FakeCard, code: int) -> None:
    for query in (
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetMaxClockInfo",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetPowerManagementLimit",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetMemoryInfo",
    ):
        card.refuse(query, code)
    with open_telemetry() as telemetry:
        assert set(telemetry.state().model_dump().values()) == {None}
        facts = telemetry.facts().model_dump()
    assert {name for name, value in facts.items() if value is None} == {
        "max_sm_clock_mhz",
        "max_memory_clock_mhz",
        "power_limit_w",
        "memory_total_bytes",
    }


def test_lost_card_is_told_not_hidden(card: FakeCard) -> None:
    card.refuse("nvmlDeviceGetPowerUsage", pynvml.NVML_ERROR_GPU_IS_LOST)
    with open_telemetry() as telemetry, pytest.raises(TelemetryUnavailable, match="GPU is lost"):
        telemetry.state()


def test_nvml_is_let_go_of_once(card: FakeCard) -> None:
    with open_telemetry() as telemetry:
        assert card.opened == 1
        telemetry.close()
    assert card.opened == 0
    with pytest.raises(TelemetryUnavailable, match="closed"):
        telemetry.state()


@pytest.mark.parametrize("query", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetHandleByUUID"])
def test_nvml_is_let_go_of_when_the_card_is_missing(card: FakeCard, query: str) -> None:
    card.refuse(query, pynvml.NVML_ERROR_NOT_FOUND)
    with pytest.raises(TelemetryUnavailable, match="cannot be reached: Not Found"):
        open_telemetry(uuid="ab" if query.endswith("UUID") else None)
    assert card.opened == 0


def test_card_is_chosen_as_cuda_sees_it(card: FakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-cd")
    open_telemetry(0)
    open_telemetry(1)
    open_telemetry(uuid="ef")
    open_telemetry(uuid="GPU-ef")
    assert card.asked_for == [3, "GPU-cd", "GPU-ef", "GPU-ef"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no NVIDIA driver here"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "not loaded"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no permission"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "version mismatch"),
    ],
)
def test_driver_that_does_not_open_is_told(card: FakeCard, code: int, reason: str) -> None:
    card.refuse("nvmlInit", code)
    with pytest.raises(TelemetryUnavailable, match=reason):
        open_telemetry()
    assert card.opened == 0


def test_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(TelemetryUnavailable, match=re.escape(f"pynvml is missing: {pip_install('nvidia-ml-py')}")):
        open_telemetry()


def _has_driver() -> bool:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    pynvml.nvmlShutdown()
    return True


@pytest.mark.skipif(_has_driver(), reason="this machine has an NVIDIA driver")
def test_this_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(TelemetryUnavailable, match=r"no NVIDIA driver here \(libnvidia-ml\.so\.1 is not found\)"):
        open_telemetry()


@pytest.fixture
def real_card() -> Iterator[Telemetry]:
    if not _has_driver():
        pytest.skip("this machine has no NVIDIA driver")
    with open_telemetry() as telemetry:
        yield telemetry


@pytest.mark.gpu
def test_real_card_tells_everything(real_card: Telemetry) -> None:
    facts, now = real_card.facts(), real_card.state()
    assert None not in facts.model_dump().values()
    assert None not in now.model_dump().values()
    assert now.sm_clock_mhz is not None
    assert facts.max_sm_clock_mhz is not None
    assert 0 < now.sm_clock_mhz <= facts.max_sm_clock_mhz


@pytest.mark.gpu
def test_real_card_is_the_one_that_cuda_uses(real_card: Telemetry) -> None:
    import torch

    uuid = str(torch.cuda.get_device_properties(0).uuid)
    assert real_card.facts().uuid == f"GPU-{uuid}"
    with open_telemetry(uuid=uuid) as telemetry:
        assert telemetry.facts() == real_card.facts()


@pytest.mark.gpu
def test_reading_a_real_card_is_quick(real_card: Telemetry) -> None:
    median_s = sorted(timeit.repeat(real_card.state, number=1, repeat=101))[50]
    assert median_s < 5e-3
