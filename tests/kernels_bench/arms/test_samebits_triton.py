"""The samebits arm in Triton: natively where there is a GPU, and everywhere under Triton's interpreter.

`test_under_the_interpreter` runs this file once more, see `support.interpreted`.
"""

import importlib
from itertools import combinations
from types import ModuleType
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from kernels_bench.arms.samebits import packed
from kernels_bench.arms.samebits.tiles import ROW_TILE, ROW_TILES, AttentionTile, RowTile
from kernels_bench.operators import operators
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.results import Verification
from kernels_bench.relations import Setting, make_batch, relations
from kernels_bench.relations.base import sweep
from kernels_bench.relations.batch import SPECIAL
from kernels_bench.verification.bitwise import same_bits
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.verifier import Verifier
from support import routed_cases
from support.interpreted import INTERPRETED, under_the_interpreter
from support.samebits_contracts import GemmContract, LayersContract, RowsContract, SamplingContract

GPU = torch.cuda.is_available()
SLOW = [pytest.mark.long] if INTERPRETED else []
"""Of what others show too, where the interpreter takes seconds for it."""


def loaded(name: str) -> ModuleType:
    """A module of Triton kernels; an empty one where none of them can run, and only this file's names are wanted."""
    module = f"kernels_bench.arms.samebits.triton.{name}"
    return importlib.import_module(module) if INTERPRETED or GPU else ModuleType(module)


triton_attention, triton_gemm, triton_rows = map(loaded, ("attention", "gemm", "rows"))
triton_layers, triton_sampling, triton_grouped = map(loaded, ("layers", "sampling", "grouped"))
routed = importlib.import_module("kernels_bench.arms.samebits.routed")

pytest.importorskip("triton")


def native_or_interpreted(cls: type) -> type:
    """Mark a class of tests as one for the GPU, unless this is the interpreter's process."""
    if INTERPRETED:
        return cls
    return pytest.mark.gpu(pytest.mark.skipif(not GPU, reason="no GPU; run under the interpreter instead")(cls))


@native_or_interpreted
class TestTritonGemm(GemmContract):
    ops: ClassVar[ModuleType] = triton_gemm
    device: ClassVar[str] = "cpu" if INTERPRETED else "cuda"
    rounds_bf16 = not INTERPRETED


@native_or_interpreted
class TestTritonLayers(LayersContract):
    ops: ClassVar[ModuleType] = triton_layers
    device: ClassVar[str] = "cpu" if INTERPRETED else "cuda"
    rounds_bf16 = not INTERPRETED


@native_or_interpreted
class TestTritonSampling(SamplingContract):
    ops: ClassVar[ModuleType] = triton_sampling
    device: ClassVar[str] = "cpu" if INTERPRETED else "cuda"


@native_or_interpreted
class TestTritonRows(RowsContract):
    ops: ClassVar[ModuleType] = triton_rows
    device: ClassVar[str] = "cpu" if INTERPRETED else "cuda"
    rounds_bf16 = not INTERPRETED

    def described_sum(self, x: Tensor) -> Tensor:
        """Column c goes to lane c mod BLOCK, in ascending order; then lanes in pairs."""
        block = ROW_TILE.lanes
        lanes = torch.zeros(len(x), block, device=x.device)
        for columns in x.split(block, dim=1):
            lanes[:, : columns.shape[1]] += columns
        while lanes.shape[1] > 1:
            lanes = lanes[:, 0::2] + lanes[:, 1::2]
        return lanes[:, 0]


@native_or_interpreted
class TestTritonRowTiles:
    """Tiles of one class give the same bits, at any M; those of others are of other orders."""

    device = "cpu" if INTERPRETED else "cuda"
    LENGTHS = (1003, 1300)  # of 128 lanes in loops that are unrolled and not, the last blocks not full

    def results(self, tile: RowTile, n: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(n)
        x, residual = (torch.randn(3, n, generator=generator).to(self.device) for _ in range(2))
        weight = torch.randn(n, generator=generator).to(self.device)
        normed, summed = triton_rows.fused_add_rms_norm(x, residual, weight, 1e-6, tile=tile)
        return {
            "rms_norm": triton_rows.rms_norm(x, weight, 1e-6, tile=tile),
            "normed": normed,
            "summed": summed,
            **{name: getattr(triton_rows, name)(x, tile=tile) for name in ("softmax", "log_softmax", "mean")},
        }

    @pytest.mark.parametrize("lanes", sorted({tile.lanes for tile in ROW_TILES.values()}))
    @pytest.mark.parametrize("n", LENGTHS)
    def test_tiles_of_as_many_lanes_have_the_same_bits(self, lanes: int, n: int) -> None:
        first, *others = (tile for tile in (ROW_TILE, *ROW_TILES.values()) if tile.lanes == lanes)
        expected = self.results(first, n)
        for tile in others if not INTERPRETED else {one.rows: one for one in others}.values():  # which has no warps
            for name, found in self.results(tile, n).items():
                assert same_bits(found, expected[name]), (tile.label, name)

    def test_tiles_of_other_lanes_add_in_another_order(self) -> None:
        means = [self.results(RowTile(lanes, 4), 1300)["mean"] for lanes in (128, 256, 1024, 4096)]
        assert not any(same_bits(one, other) for one, other in combinations(means, 2))


@native_or_interpreted
class TestTritonAttention:
    """The paged attention, with splits small enough that several have to be joined."""

    device = torch.device("cpu" if INTERPRETED else "cuda")

    TILE = AttentionTile(64, 64, 4)

    def verify(self, name: str, heads: tuple[int, int, int], tokens: int, text: str, *chosen: str) -> Verification:
        count = 5 if INTERPRETED else 40  # the interpreter takes a second for what a GPU does in microseconds
        subject = self.subject(name, heads, tokens, text, count)
        sizes = (1, count) if INTERPRETED else sweep(count)
        setting = Setting(count, sizes, longest=2 if INTERPRETED else tokens)
        return Verifier(subject, 0).verify([relations()[name] for name in chosen], setting, [1])

    def subject(
        self,
        name: str,
        heads: tuple[int, int, int],
        tokens: int,
        text: str,
        count: int,
        tile: AttentionTile | None = None,
    ) -> KernelUnderTest:
        """A universe that begins with sequences long enough for several splits."""
        query_heads, kv_heads, size = heads
        shape = Shape(label="test", heads=query_heads, kv_heads=kv_heads, k=size, page=16, tokens=tokens)
        case = Case(arm="samebits", operator=name, shape=shape, precision=Precision.parse(text))
        operator = operators()[name].with_lengths((tokens, tokens // 2 + 1))
        kernel = triton_attention.Attention(tile or self.TILE)
        return KernelUnderTest(case, operator, kernel, seed=0, universe=count, device=self.device)

    @pytest.mark.parametrize(
        ("heads", "text"),
        [
            pytest.param((4, 2, 16), "bf16", marks=SLOW),
            ((3, 1, 24), "fp16"),
            pytest.param((2, 2, 64), "bf16", marks=SLOW),
        ],
    )
    def test_decode_keeps_its_bits_over_joined_splits(self, heads: tuple[int, int, int], text: str) -> None:
        found = self.verify("attention_decode", heads, 129, text, "batch_size", "page_placement", "neighbour_length")
        assert found.wrong == ""
        assert found.verdict == "sampled"

    def test_each_split_and_each_block_is_an_order_of_its_own_and_warps_are_none(self) -> None:
        def found(tile: AttentionTile) -> Tensor:
            made = self.subject("attention_decode", (2, 1, 16), 129, "bf16", 2, tile)
            together = made.run(make_batch("first:2", 2))[0]
            assert same_bits(made.run(make_batch("first:1", 2))[0], together[:1])
            return together

        results = {tile: found(AttentionTile(*tile, 4)) for tile in ((64, 64), (128, 64), (64, 32))}
        assert not any(same_bits(one, other) for one, other in combinations(results.values(), 2))
        assert same_bits(found(AttentionTile(64, 64, 8)), results[64, 64])

    @pytest.mark.parametrize(
        ("name", "text"), [pytest.param("attention_prefill", "bf16", marks=SLOW), ("attention_mixed", "fp16")]
    )
    def test_prefill_keeps_its_bits_in_chunks_and_by_decode(self, name: str, text: str) -> None:
        found = self.verify(name, (4, 2, 16), 17 if INTERPRETED else 129, text, "chunking", "prefill_decode")
        assert found.wrong == ""
        assert found.verdict == "sampled"

    def test_a_window_over_two_splits_a_soft_cap_and_sinks_are_right_and_keep_their_bits(self) -> None:
        """A sequence by prefill, in chunks, by decode, and after what its window has left behind was exchanged."""
        sizes = {"heads": 2, "kv_heads": 1, "k": 16, "page": 16, "tokens": 97, "window": 30, "softcap": 5, "sinks": 1}
        shape = Shape.model_validate({"label": "test", **sizes})
        case = Case(arm="samebits", operator="attention_variant_mixed", shape=shape, precision=Precision.parse("fp16"))
        operator = operators()[case.operator].with_lengths((97, 81))
        made = KernelUnderTest(case, operator, triton_attention.attention, seed=0, universe=2, device=self.device)
        whole = made.lines(make_batch("first:2", 2)).ids.tolist()
        (expected,) = made.run(make_batch("first:2", 2))
        ids = torch.tensor(whole, device=self.device)
        inputs = made.operator.inputs_of(ids, made.tables)
        exact, allowed = made.operator.reference_and_tolerance(inputs, made.weights, torch.float16)
        assert bool(((expected.double() - exact[0]).abs() <= allowed[0]).all())
        for spec in ("chunks:2:20", "tails:2", "behind:2:1:0", "behind:2:2:1"):
            batch = make_batch(spec, 2)
            for line, found in zip(made.lines(batch).ids.tolist(), made.run(batch)[0], strict=True):
                assert bool(same_bits(found, expected[whole.index(line)])), spec

    def test_packed_prefills_are_right_though_values_are_shorter_than_keys(self) -> None:
        operator = operators()["mla_prefill"]
        (shape,) = (one for one in operator.shapes if one.label == "small/unaligned")
        case = Case(arm="samebits", operator="mla_prefill", shape=shape, precision=Precision.parse("fp16"))
        kernel = packed.Packed(triton_attention.attention)
        made = KernelUnderTest(case, operator, kernel, seed=0, universe=2, device=self.device)
        batch = make_batch("first:2", 2)
        inputs = made.operator.inputs_of(torch.tensor(made.lines(batch).ids, device=self.device), made.tables)
        exact, allowed = made.operator.reference_and_tolerance(inputs, (), torch.float16)
        assert bool(((made.run(batch)[0].double() - exact[0]).abs() <= allowed[0]).all())

    def test_caches_of_eight_bits_are_dequantised_within(self) -> None:
        """Which has the bits that it has before: with these scales nothing is rounded."""
        shape = Shape(label="test", heads=2, kv_heads=1, k=16, page=16, tokens=65)
        case = Case(arm="samebits", operator="attention_fp8_mixed", shape=shape, precision=Precision.parse("fp16"))
        operator = operators()[case.operator].with_lengths((65, 33))
        made = KernelUnderTest(case, operator, triton_attention.attention, seed=0, universe=2, device=self.device)
        q, keys, values, batch = made.operator.arguments(made.gather(make_batch("first:2", 2)), made.weights)
        wide = [(one.float() * scale).to(q.dtype) for one, scale in zip((keys, values), batch.descale, strict=True)]
        expected = triton_attention.attention(q, *wide, batch._replace(descale=None))
        assert bool(same_bits(triton_attention.attention(q, keys, values, batch), expected))

    @pytest.mark.parametrize(
        ("name", "text"), [("attention_decode", "bf16"), pytest.param("attention_mixed", "fp16", marks=SLOW)]
    )
    def test_what_unused_slots_hold_and_whose_pages_are_read_does_not_show(self, name: str, text: str) -> None:
        made = self.subject(name, (4, 2, 16), 129, text, 3)
        for reference, others in (
            ("first:3", ("unused:3:1", "unused:3:2", "unused:3:3")),
            ("apart:3:2", ("shared:3:2",)),
        ):
            (expected,) = made.run(make_batch(reference, 3))
            assert expected.isfinite().all()
            for spec in others:
                assert same_bits(made.run(make_batch(spec, 3))[0], expected), spec

    @pytest.mark.parametrize("text", [pytest.param("bf16", marks=SLOW), "fp16"])
    def test_queries_and_caches_may_be_views_of_wider_tensors(self, text: str) -> None:
        """As slices of a fused projection are, and of a cache that has keys and values side by side."""
        made = self.subject("attention_mixed", (4, 2, 16), 129, text, 3)
        q, keys, values, batch = made.operator.arguments(made.gather(make_batch("first:3", 3)), made.weights)
        expected = triton_attention.attention(q, keys, values, batch)
        wide = q.new_full((len(q), 4 + 2 * 2, 16), torch.nan)
        both = keys.new_full((*keys.shape[:2], 2, 2, 16), torch.nan)
        caches = [both[:, :, 0], both[:, :, 1]]
        for view, values_of in ((wide[:, :4], q), (caches[0], keys), (caches[1], values)):
            view.copy_(values_of)
        strided = wide[:, :4], *caches, batch
        by_columns = q.transpose(1, 2).contiguous().transpose(1, 2), keys, values, batch
        for arguments in (strided, by_columns):
            found = triton_attention.attention(*arguments)
            assert found.is_contiguous()
            assert same_bits(found, expected)

    def test_special_sequences_have_the_same_bits_alone_and_among_others(self) -> None:
        made = self.subject("attention_decode", (4, 2, 16), 161, "bf16", 12)
        count = len(SPECIAL)
        together = make_batch(f"special:{count}:0", 12)
        expected = dict(zip(made.lines(together).ids.tolist(), made.run(together)[0], strict=True))
        for spec in (*(f"special:1:{number}" for number in range(count)), "special:7:2", "special:15:8"):
            batch = make_batch(spec, 12)
            lines, (found,) = made.lines(batch), made.run(batch)
            assert all(same_bits(found[place], expected[int(lines.ids[place])]) for place in lines.compared), spec


@native_or_interpreted
class TestTritonRouted:
    """Rows that choose experts or an adapter."""

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            pytest.param("moe_experts", "fp16", marks=SLOW),
            pytest.param("moe_gating", "fp32", marks=SLOW),
            ("lora_shrink", "fp32"),
            ("lora_expand", "fp16"),
        ],
    )
    def test_rows_keep_their_bits_whoever_chose_what(self, name: str, text: str) -> None:
        kernel = routed.kernels(triton_gemm, triton_rows, triton_layers, triton_grouped.chosen)[name]
        looked_at = ("position", "neighbour_content", "neighbour_routing")
        slow = {*relations()} - {*looked_at} if INTERPRETED else set()
        universe, device = (4, "cpu") if INTERPRETED else (65, "cuda")
        found = routed_cases.verified(name, kernel, text, universe, *slow, device=device)
        assert found.wrong == ""
        assert found.verdict == "sampled", [result for result in found.relations if result.status != "held"]


@pytest.mark.skipif(INTERPRETED, reason="this is its process")
@pytest.mark.parametrize("which", ["not long", pytest.param("long", marks=pytest.mark.long)])
def test_under_the_interpreter(which: str) -> None:
    child = under_the_interpreter(__file__, which)
    assert child.returncode == 0, child.stdout + child.stderr
    assert "passed" in child.stdout


@native_or_interpreted
class TestSpecialisation:
    """What the compiler may know of a batch: nothing."""

    @pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
    def test_one_kernel_for_every_m(self) -> None:
        b = torch.randn(96, 80, device="cuda")
        triton_gemm.mm(torch.randn(2, 96, device="cuda"), b)
        compiled = self.compiled()
        for m in (1, 3, 16, 64, 65, 128, 1000):
            triton_gemm.mm(torch.randn(m, 96, device="cuda"), b)
        assert self.compiled() == compiled

    @staticmethod
    def compiled() -> int:
        return sum(len(caches[0]) for caches in triton_gemm._gemm_kernel.device_caches.values())
