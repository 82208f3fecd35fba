"""samebits' GEMM in its tiles: under Triton's interpreter everywhere, on a GPU too, and compiled for one without it.

`test_under_the_interpreter` runs this file once more, see `support.interpreted`.
"""

import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from kernels_bench.arms.samebits import candidates
from kernels_bench.arms.samebits.tiles import (
    GRAIN,
    MANY_ROWS,
    MOST_SHARED,
    TILES_16BIT,
    TILES_FP32,
    RowTile,
    Tile,
    tiles,
)
from kernels_bench.arms.samebits.tuned import Ranges, RowSize, Size, Table, gemms_of, rows_of
from kernels_bench.records.cases import Device
from support.interpreted import INTERPRETED, under_the_interpreter
from support.samebits_contracts import assert_same_bits

pytest.importorskip("triton")

GPU = torch.cuda.is_available()
NAME = "kernels_bench.arms.samebits.triton.tiles"
triton_tiles = importlib.import_module(NAME) if INTERPRETED or GPU else ModuleType(NAME)
triton_gemm = importlib.import_module("kernels_bench.arms.samebits.triton.gemm") if INTERPRETED or GPU else triton_tiles
DEVICE = "cpu" if INTERPRETED else "cuda"

Test = TypeVar("Test", bound=Callable[..., None])


def runs_kernels(test: Test) -> Test:
    """Mark a test as one for the GPU, unless this is the interpreter's process."""
    if INTERPRETED:  # before it is marked, since a mark stays with the function
        return test
    needs_one = pytest.mark.skipif(not GPU, reason="no GPU; run under the interpreter instead")
    marked: Test = pytest.mark.gpu(needs_one(test))
    return marked


K, N = 520, 136
"""Two parts and a little, and columns that end within a tile."""

SAMPLE = [
    *(Tile(16, 64, 128, 4, 4, swapped=True, parts=parts) for parts in (1, 2, 16)),
    Tile(64, 64, 128, 4, 3, parts=2),
    Tile(32, 128, 128, 4, 4, swapped=True),
    Tile(128, 256, 64, 8, 3),
]
IN_PARTS = [tile for tile in SAMPLE if tile.parts > 1]


def data(dtype: torch.dtype, m: int = 70, k: int = K) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows, weight = (torch.randn(size, k, generator=generator).to(dtype).to(DEVICE) for size in (m, N))
    return rows, weight


@pytest.mark.skipif(INTERPRETED, reason="this is its process")
def test_under_the_interpreter() -> None:
    child = under_the_interpreter(__file__, "")
    assert child.returncode == 0, child.stdout + child.stderr
    # What is compiled, and this test itself, are skipped there; nothing else.
    assert re.search(r"passed, 3 skipped", child.stdout), child.stdout


@runs_kernels
@pytest.mark.parametrize("tile", SAMPLE, ids=lambda tile: tile.label)
def test_a_row_has_the_same_bits_in_every_batch_and_the_right_ones(tile: Tile) -> None:
    rows, weight = data(torch.float16)
    whole = triton_tiles.linear(tile, rows, weight, out_dtype=torch.float32)
    expected = rows.double() @ weight.double().t()
    assert (whole.double() - expected).abs().max() < 1e-4
    for m in (1, 17, 65):
        assert_same_bits(triton_tiles.linear(tile, rows[:m], weight, out_dtype=torch.float32), whole[:m])
    order = torch.arange(69, -1, -1, device=DEVICE)
    assert_same_bits(triton_tiles.linear(tile, rows[order], weight, out_dtype=torch.float32), whole[order])


@runs_kernels
@pytest.mark.parametrize("tile", [Tile(16, 16, 512, 4, 3, swapped=True), Tile(64, 64, 128, 4, 3, parts=2)])
def test_operands_whose_rows_begin_anywhere_are_copied_for_many_rows_and_no_bit_changes(tile: Tile) -> None:
    few = triton_tiles.COPIED_FROM - 1
    rows, weight = data(torch.float16, few + 7, K + 1)
    by_rows = weight.t().contiguous()[:, :-5]  # whose rows begin at a multiple of 16 bytes, unlike those of its copy
    weight = weight[:-5]
    whole = triton_tiles.linear(tile, rows, weight, out_dtype=torch.float32)
    assert (whole.double() - rows.double() @ weight.double().t()).abs().max() < 1e-4
    shifted = torch.cat([rows[:1, :3].flatten(), rows.flatten()])[3:].view(rows.shape)
    for m in (1, few, few + 1):
        assert_same_bits(triton_tiles.linear(tile, rows[:m], weight, out_dtype=torch.float32), whole[:m])
        assert_same_bits(triton_tiles.mm(tile, shifted[:m], by_rows, out_dtype=torch.float32), whole[:m])


@runs_kernels
@pytest.mark.parametrize("tile", IN_PARTS, ids=lambda tile: tile.label)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_parts_are_added_as_a_tree_among_however_many_programs(tile: Tile, dtype: torch.dtype) -> None:
    k = 5 * GRAIN + 20
    rows, weight = data(dtype, 18, k)
    width = -(-6 // tile.parts) * GRAIN

    def described(parts: range) -> Tensor:
        if len(parts) > 1:
            half = len(parts) // 2
            return described(parts[:half]) + described(parts[half:])
        left, right = (one[:, parts[0] * width :][:, :width].contiguous() for one in (rows, weight))
        if left.shape[1] == 0:  # more parts than there are places to cut K at
            return torch.zeros(18, N, device=DEVICE)
        found: Tensor = triton_tiles.linear(tile._replace(parts=1), left, right, out_dtype=torch.float32)
        return found

    expected, bias = described(range(tile.parts)), weight[:, 0].float()
    runs = 1
    while runs <= tile.parts:
        assert_same_bits(triton_tiles.gemm(tile, rows, weight.t(), None, torch.float32, runs), expected)
        assert_same_bits(triton_tiles.gemm(tile, rows, weight.t(), bias, torch.float32, runs), expected + bias)
        runs *= 2


@runs_kernels
@pytest.mark.parametrize("k", [1, 7, 64, 300])
def test_any_k_operands_of_any_strides_and_a_bias(k: int) -> None:
    rows, weight = data(torch.float32, 5, k)
    bias = weight[:, 0].clone()
    tile = Tile(16, 64, 32, 4, 3, parts=4)
    expected = rows.double() @ weight.double().t() + bias.double()
    found = [
        triton_tiles.linear(tile, rows, weight, bias),
        triton_tiles.addmm(tile, bias, rows, weight.t()),
        triton_tiles.addmm(tile, bias, rows.t().contiguous().t(), weight.t().contiguous()),
    ]
    for one in found:
        assert (one.double() - expected).abs().max() < 1e-4
        assert_same_bits(one, found[0])


@runs_kernels
def test_a_table_chooses_the_tile_by_m() -> None:
    rows, weight = data(torch.float16)
    # In this process alone: of unlike parts, so that their bits tell them apart.
    small, large = Tile(16, 64, 128, 4, 3, parts=2), Tile(64, 64, 128, 4, 3)
    linear = gemms_of(Table("a GPU", "any", ("abc",), {Size(N, K, "fp16"): Ranges((small, large), (16,))}))["linear"]
    for m, tile in ((1, small), (16, small), (17, large), (70, large)):
        expected = triton_tiles.linear(tile, rows[:m], weight, out_dtype=torch.float32)
        assert_same_bits(linear(rows[:m], weight, out_dtype=torch.float32), expected)
    assert_same_bits(linear(rows, weight[:-8]), triton_gemm.linear(rows, weight[:-8]))


@runs_kernels
@pytest.mark.parametrize("k", [7, K])
@pytest.mark.parametrize("m", [0, 1, 5, 16, 33])
def test_on_a_known_device_full_precision_has_other_tiles_and_the_same_bits(m: int, k: int) -> None:
    rows, weight = data(torch.float32, m, k)
    bias = torch.arange(N, dtype=torch.float32, device=DEVICE)
    kernels = gemms_of(Table("a GPU", "any", ("abc",), {}))
    expected = (rows.double() @ weight.double().t()).float()
    found = {
        "mm": kernels["mm"](rows, weight.t().contiguous()),
        "linear": kernels["linear"](rows, weight),
        "addmm": kernels["addmm"](bias, rows, weight.t()) - bias,
        "linear_bias": kernels["linear_bias"](rows, weight, bias) - bias,
    }
    for one in found.values():
        torch.testing.assert_close(one, expected, atol=1e-3, rtol=0)
    if not INTERPRETED:  # which adds the terms of a block in NumPy's order
        assert_same_bits(found["linear"], triton_gemm.linear(rows, weight))
        assert_same_bits(found["mm"], triton_gemm.mm(rows, weight.t()))
        assert_same_bits(found["addmm"], triton_gemm.addmm(bias, rows, weight.t()) - bias)


@runs_kernels
def test_a_table_chooses_the_tile_of_row_operators_by_m_too() -> None:
    rows, weight = data(torch.float32, 4)
    small, large = RowTile(128, 1), RowTile(256, 1)  # of unlike orders, as above
    sizes = {RowSize(name, K, "fp32"): Ranges((small, large), (2,)) for name in ("rms_norm", "softmax")}
    kernels = rows_of(Table("a GPU", "any", ("abc",), {}, sizes))
    assert kernels.keys() == {"rms_norm", "softmax"}
    triton_rows = importlib.import_module("kernels_bench.arms.samebits.triton.rows")
    for m, tile in ((2, small), (4, large)):
        x, gain = rows[:m], weight[0].contiguous()
        assert_same_bits(kernels["rms_norm"](x, gain, 1e-6), triton_rows.rms_norm(x, gain, 1e-6, tile=tile))
        assert_same_bits(kernels["softmax"](x, out_dtype=x.dtype), triton_rows.softmax(x, tile=tile))
    other = rows[:, :-1]
    assert_same_bits(kernels["softmax"](other), triton_rows.softmax(other))
    # Its parameters decide on the dtypes that it is asked for.
    assert "out_dtype" not in inspect.signature(kernels["rms_norm"]).parameters
    assert "out_dtype" in inspect.signature(kernels["softmax"]).parameters


@pytest.mark.skipif(not INTERPRETED, reason="a GPU does not look for it")
@pytest.mark.parametrize(("name", "first", "other"), [("add", 1, 2**31 - 1), ("sub", -2, 2**31 - 1), ("mul", 3, 2**30)])
def test_whole_numbers_that_leave_their_type_are_seen(name: str, first: int, other: int) -> None:
    """Under the interpreter, as `support.interpreted` has it; what just fits is none."""
    semantic = importlib.import_module("triton.runtime.interpreter").interpreter_semantic
    language = importlib.import_module("triton.language")
    number = semantic.scalar_constant(other, language.int32)
    with pytest.raises(AssertionError, match=f"int32 overflow detected for operation {name}"):
        getattr(semantic, name)(first, number, True)
    towards_0 = 1 if first < 0 else -1
    assert getattr(semantic, name)(first + towards_0, semantic.scalar_constant(other - 1, language.int32), True)


@runs_kernels
def test_kernels_of_every_label_are_for_the_operators_that_are_offered() -> None:
    for one in candidates(Device(type="cuda", name="some GPU")).values():
        assert one.kernels().keys() == {*one.offers}
        assert {*one.dtypes} <= {"bf16", "fp16", "fp32"}


def test_a_tile_of_few_rows_gives_way_to_one_of_as_many_parts() -> None:
    few, many = Tile(4, 16, 128, 1, 3, swapped=True, parts=2), Tile(16, 16, 64, 1, 3, swapped=True, parts=2)
    assert few in TILES_FP32
    assert [few.at(m) for m in (1, 16, 17)] == [few, few, MANY_ROWS._replace(parts=2)]
    assert {many.at(m) for m in (1, 16, 4096)} == {many}


def test_every_tile_has_a_label_of_its_own_and_fits() -> None:
    known = tiles()
    assert len({tile.label for tile in (*TILES_16BIT, *TILES_FP32)}) == len((*TILES_16BIT, *TILES_FP32))
    assert known["16x64x128w4s4-swapped-8parts"][0].parts == 8
    for tile, dtypes in known.values():
        assert tile.shared_bytes(4 if "fp32" in dtypes else 2) <= MOST_SHARED
        assert GRAIN % tile.k == 0 or tile.parts == 1  # or parts would end elsewhere than other tiles' do
    assert Tile(128, 256, 256, 8, 4).shared_bytes(2) > MOST_SHARED


COMPILE = """
import re, sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from kernels_bench.arms.samebits.tiles import tiles
from kernels_bench.arms.samebits.triton.tiles import GROUP, _gemm_tile_kernel as kernel

label, parts = sys.argv[1], int(sys.argv[2])
tile, _ = tiles()[label]
memory = ("a", "b", "c")
constants = {"bias": None, "a_k": 1, "b_k": 1, "HAS_BIAS": False, "UPCAST": False, "EVEN_K": True}
constants |= {"SWAPPED": tile.swapped, "SIDE_BY_SIDE": False, "PARTS": parts, "GROUP": GROUP}
constants |= {"BLOCK_M": tile.m, "BLOCK_N": tile.n, "BLOCK_K": tile.k}
types = {"a": "*bf16", "b": "*bf16", "c": "*fp32"}
names = kernel.arg_names
signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in (*memory, "n", "k", "part_k", "a_row", "b_n")}
source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in constants.items()}, aligned)
made = triton.compile(
    source, target=GPUTarget("cuda", 90, 32), options={"num_warps": tile.warps, "num_stages": tile.stages}
)
print(made.metadata.shared)
print(made.asm["ptx"])
"""


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize(
    ("label", "parts"),
    [
        ("16x64x128w4s5-swapped", "1"),
        ("16x64x128w4s4-swapped-8parts", "4"),
    ],
)
def test_compiled_for_sm90_it_uses_wgmma_whatever_the_rows(label: str, parts: str) -> None:
    """One instruction for few rows and many, so that they can add in one order; no GPU is needed to compile."""
    made = subprocess.run([sys.executable, "-c", COMPILE, label, parts], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    shared, _, ptx = made.stdout.partition("\n")
    assert int(shared) <= MOST_SHARED
    assert re.search(r"wgmma\.mma_async\.sync\.aligned\.m64n(16|64)k16", ptx)
    assert "mma.sync" not in ptx
