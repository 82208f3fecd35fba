"""The table of ``npu-smi info``, drawn as the command's manual shows it and read back."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.instruments.npu_smi import Chip, read_table, read_version
from profiles.instruments.open_device import open_device
from profiles.instruments.telemetry import TelemetryUnavailable

HEAD = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 24.1.rc2                 Version: 24.1.rc2                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
"""
LINE = "+===========================+===============+====================================================+\n"
TAIL = """\
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| 0       0                 | 4321          | python                   | 30128                   |
+===========================+===============+====================================================+
"""
A2 = f"""{HEAD}\
| 0     910B3               | OK            | 89.1        45                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3161 / 65536         |
{LINE}| 1     910B3               | Warning       | 92.4        46                0    / 0             |
| 0                         | 0000:01:00.0  | 7           0    / 0          60000/ 65536         |
{LINE}{TAIL}"""

numbers = st.integers(0, 99_999)
chips = st.builds(
    Chip,
    card=st.integers(0, 15),
    chip=st.integers(0, 1),
    name=st.sampled_from(["910B3", "910B4-1", "Ascend910", "310P3"]),
    health=st.sampled_from(["OK", "Warning", "Alarm", "Critical", "UNKNOWN"]),
    power_w=st.none() | st.integers(0, 9999).map(lambda tenths: tenths / 10),
    temperature_c=st.none() | st.integers(-20, 120),
    bus=st.sampled_from(["0000:C1:00.0", "0000:9D:00.0", "NA"]),
    used_mb=numbers,
    total_mb=numbers,
)


def drawn(chip: Chip, second_number: bool, missing: str) -> str:
    """A chip's two lines; of newer cards the second also has the number over all cards."""
    power = missing if chip.power_w is None else f"{chip.power_w:.1f}"
    celsius = missing if chip.temperature_c is None else str(chip.temperature_c)
    own = f"{chip.chip}     {chip.card * 2 + chip.chip}" if second_number else f"{chip.chip}"
    usage = f"{chip.used_mb:<5}/ {chip.total_mb}"
    return (
        f"| {chip.card:<5} {chip.name:<19} | {chip.health:<13} | {power:<11} {celsius:<17} {'0    / 0':<20}|\n"
        f"| {own:<25} | {chip.bus:<13} | {'0':<11} {'0    / 0':<17} {usage:<20} |\n{LINE}"
    )


@given(st.lists(chips, max_size=8), st.booleans(), st.sampled_from(["NA", "-"]))
def test_what_is_drawn_is_read_back(found: list[Chip], second_number: bool, missing: str) -> None:
    table = HEAD + "".join(drawn(chip, second_number, missing) for chip in found) + TAIL
    assert list(read_table(table)) == found
    assert read_version(table) == "24.1.rc2"


@given(st.text())
def test_no_text_is_too_odd_to_be_read(said: str) -> None:
    assert isinstance(read_table(said), tuple)
    assert isinstance(read_version(A2 + said), str)


def npu_smi(folder: Path, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a command of that name first on the path."""
    (folder / "table").write_text(said)
    command = folder / "npu-smi"
    command.write_text(f'#!/bin/sh\n[ "$1" = info ] && cat "{folder}/table"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_chips_telemetry_is_opened_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npu_smi(tmp_path, A2, monkeypatch)
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "1")
    with open_device("NPU-0") as telemetry:
        state, facts = telemetry.state(), telemetry.facts()
        assert (state.power_w, state.temperature_c, state.slowed) == (92.4, 46, None)
        assert (facts.name, facts.uuid, facts.driver_version) == ("910B3", "NPU-1-0", "24.1.rc2")
        assert telemetry.memory() == (5536 << 20, 65536 << 20)
        assert telemetry.capability() is None
    monkeypatch.delenv("ASCEND_RT_VISIBLE_DEVICES")
    with pytest.raises(TelemetryUnavailable, match="2 chips: there is no NPU 2"):
        open_device("NPU-2")


def test_without_the_command_there_is_no_telemetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TelemetryUnavailable, match="comes with the NPU's driver"):
        open_device("NPU-0")
