"""A plan as vLLM's table, and the proof beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.arms.samebits.tiles import RowTile
from kernels_bench.arms.samebits.tuned import read_table
from kernels_bench.plan.export import TritonTile, as_source, expressible, tile_of
from support.plans import CPU, H100, case, plan
from support.processes import kernels_bench

NARROW, WIDE = "samebits[16x128x64w4s4]", "samebits[128x256x64w8s3]"


class _MatmulMConfig(NamedTuple):
    """As in vLLM 0.33's batch_invariant_configs.py."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


class _MatmulShapeConfig(NamedTuple):
    block_k: int
    m_buckets: tuple[tuple[int, _MatmulMConfig], ...]


def table(source: str) -> Any:
    names = {"_MatmulMConfig": _MatmulMConfig, "_MatmulShapeConfig": _MatmulShapeConfig}
    return eval(f"{{\n{source}\n}}", names)


@given(st.tuples(*[st.integers(1, 999)] * 5))
def test_a_label_tells_the_tile(sizes: tuple[int, int, int, int, int]) -> None:
    m, n, k, warps, stages = sizes
    assert tile_of(f"samebits[{m}x{n}x{k}w{warps}s{stages}]") == TritonTile(*sizes)


@pytest.mark.parametrize("name", ["samebits", "cublas-restricted", "a[16x64x128w4s4-swapped]", "a[1x2x3w4s5-2parts]"])
def test_a_label_that_tells_more_than_a_tile_is_none(name: str) -> None:
    assert tile_of(name) is None


def test_the_table_is_that_of_vllm_and_the_proof_stands_beside_it(tmp_path: Path) -> None:
    made = plan(
        case((1, NARROW), (33, WIDE), n=6144, k=4096),
        case((1, "cublas-restricted"), n=4096, k=12288),
        case((1, NARROW), (17, "samebits[64x128x128w4s4]"), n=1, k=64),
        case((1, WIDE), n=64, k=64, dtype="fp16"),
        case(n=8, k=8),
    )
    file, out = tmp_path / "plan.json", tmp_path / "table.py"
    file.write_text(made.model_dump_json())
    done = kernels_bench("plan", "export", file, "--to", "vllm", "--out", out)
    assert done.status == 0, done.err
    found = table(out.read_text())
    assert found == {"hopper": {(6144, 4096): (64, ((32, (16, 128, 4, 4)), (64, (128, 256, 8, 3))))}}
    proof = json.loads((tmp_path / "table.py.proof.json").read_text())
    (shape,) = proof["shapes"]
    assert (shape["n"], shape["k"], shape["basis"], shape["digests"]["16"]) == (6144, 4096, "proven", "d16")
    assert shape["kernels"] == {"1": NARROW, "33": WIDE}
    assert proof["device"] == H100.name
    said = done.err
    assert "linear/4096x12288/bf16 is not in the table: cublas-restricted is no Triton tile" in said
    assert "linear/1x64/bf16 is not in the table: its tiles' K is 64 and 128, and the table has one" in said
    assert "linear/64x64/fp16 is not in the table: the table is for linear in bf16" in said
    assert "linear/8x8/bf16 is not in the table: the plan has no kernel for it" in said


def test_a_plan_that_the_table_cannot_say_is_no_table(tmp_path: Path) -> None:
    file, out = tmp_path / "plan.json", tmp_path / "table.py"
    file.write_text(plan(case((1, "cublas-restricted"))).model_dump_json())
    done = kernels_bench("plan", "export", file, "--out", out)
    assert done.status == 3
    assert not out.exists()


def test_vllm_has_no_table_for_other_devices() -> None:
    made = plan(case((1, WIDE)), device=CPU)
    with pytest.raises(ValueError, match="vLLM has no table for a CPU"):
        list(as_source(made, expressible(made)[0]))


def test_samebits_own_table_is_read_as_it_was_planned(tmp_path: Path) -> None:
    small, large = "16x64x64w4s6-swapped", "64x128x64w4s4"
    made = plan(
        case((1, f"samebits[{small}]"), (33, f"samebits[{large}]"), n=6144, k=4096),
        case((1, "cublas-restricted"), n=4096, k=4096),
        case((1, "samebits[1024lanes-w8]"), (17, "samebits[1024lanes-w2-4rows]"), operator="rms_norm", n=None, k=4096),
        case((1, "samebits[1024lanes-w8]"), (17, "samebits[256lanes-w2]"), operator="softmax", n=None, k=4096),
        case((1, "samebits[999lanes-w8]"), operator="mean", n=None, k=4096),
        case((1, f"samebits[{small}]"), (9, "samebits[64x64x128w4s3-2parts]"), n=8, k=4096),
    )
    file, out = tmp_path / "plan.json", tmp_path / "table.json"
    file.write_text(made.model_dump_json())
    done = kernels_bench("plan", "export", file, "--to", "samebits", "--out", out)
    assert done.status == 0, done.err
    assert "linear/4096x4096/bf16 is not in the table: cublas-restricted is no tile of samebits'" in done.err
    read = read_table(out)
    assert read.device == H100.name
    (ranges,) = read.ranges.values()
    assert [ranges.at(m).label for m in (1, 32, 33, 9999)] == [small, small, large, large]
    ((size, rows),) = read.rows.items()
    assert size == ("rms_norm", 4096, "bf16")
    assert [rows.at(m) for m in (16, 17)] == [RowTile(1024, 8), RowTile(1024, 2, 4)]
    # Digests that are equal by luck are none to build an arm on.
    assert "softmax/4096/bf16 is not in the table: its tiles are meant to add in several orders: 1024" in done.err
    assert "linear/8x4096/bf16 is not in the table: its tiles are meant to add in several orders: in one" in done.err
    assert "mean/4096/bf16 is not in the table: this samebits has no tile samebits[999lanes-w8]" in done.err
    assert not (tmp_path / "table.json.proof.json").exists()
