"""The tables of samebits' linear: that they are sound, and which of them is used."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.arms.samebits.tiles import Tile
from kernels_bench.arms.samebits.tuned import TABLES, Ranges, Size, read_table, table_for
from kernels_bench.plan.export import tuned
from kernels_bench.plan.file import digest_of, read_plan
from support import ROOT

pytest.importorskip("triton")

KEPT = sorted(TABLES.glob("*.json"))


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.stem)
def test_all_tiles_of_a_shape_are_meant_to_add_in_one_order(file: Path) -> None:
    table = read_table(file)
    assert table.ranges
    for size, ranges in table.ranges.items():
        assert len({tile.order for tile in ranges.tiles}) == 1, size
        assert [*ranges.lasts] == sorted({*ranges.lasts})
        assert len(ranges.tiles) == len(ranges.lasts) + 1


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.stem)
def test_a_kept_table_is_what_its_plan_says(file: Path) -> None:
    said = json.loads(file.read_text())
    plans = {digest_of(made.read_bytes()): made for made in (ROOT / "profiles" / "plans").glob("*/*.json")}
    table, _ = tuned(read_plan(plans[said["plan"]]), said["plan"])
    assert said == json.loads(table.model_dump_json())


@given(st.lists(st.integers(1, 5000), unique=True, max_size=6).map(sorted), st.integers(1, 6000))
def test_every_m_has_the_tile_of_its_range(lasts: list[int], m: int) -> None:
    known = tuple(Tile(number, 1, 1, 1, 1) for number in range(len(lasts) + 1))
    assert Ranges(known, tuple(lasts)).at(m).m == sum(m > last for last in lasts)


def test_a_table_is_for_its_device_and_its_triton(tmp_path: Path) -> None:
    now = importlib.metadata.version("triton")
    shapes = [{"n": 64, "k": 32, "dtype": "bf16", "tiles": [[16, "16x64x64w4s6-swapped"], [None, "64x128x64w4s4"]]}]
    other = [{"n": 8, "k": 32, "dtype": "bf16", "tiles": [[None, "64x128x64w4s4"]]}]
    for name, triton, plan, of in (
        ("now", now, "abc", shapes),
        ("then", "0.0.1", "abc", shapes),
        ("now", now, "d", other),
    ):
        said = {"device": f"GPU {name}", "triton": triton, "plan": plan, "shapes": of}
        (tmp_path / f"{name}-{plan}.json").write_text(json.dumps(said))
    table = table_for("GPU now", tmp_path)
    assert table is not None
    assert table.ranges[Size(64, 32, "bf16")].at(17).m == 64
    assert table.ranges[Size(8, 32, "bf16")].at(1).m == 64
    assert table.plans == ("abc", "d")
    assert table_for("GPU then", tmp_path) is None
    assert table_for("another GPU", tmp_path) is None
