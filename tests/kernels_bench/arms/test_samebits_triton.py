"""The samebits arm in Triton: natively where there is a GPU, and everywhere under Triton's interpreter.

The interpreter is chosen by a variable that Triton reads when it is imported, and it cannot be left again. So
`test_under_the_interpreter` runs this file once more, in a process of its own.
"""

import importlib
import os
import subprocess
import sys
from types import ModuleType
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from kernels_bench.device.triton_interpreter import ROWS_ALIKE
from kernels_bench.operators import operators
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.results import Verification
from kernels_bench.relations import Setting, make_batch, relations
from kernels_bench.relations.base import sweep
from kernels_bench.verification.bitwise import same_bits
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.verifier import Verifier
from support import routed_cases
from support.samebits_contracts import GemmContract, LayersContract, RowsContract

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
GPU = torch.cuda.is_available()


def loaded(name: str) -> ModuleType:
    """A module of Triton kernels; an empty one where none of them can run, and only this file's names are wanted."""
    module = f"kernels_bench.arms.samebits.{name}"
    return importlib.import_module(module) if INTERPRETED or GPU else ModuleType(module)


triton_attention, triton_gemm, triton_rows = map(loaded, ("triton_attention", "triton_gemm", "triton_rows"))
triton_layers = loaded("triton_layers")
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
class TestTritonRows(RowsContract):
    ops: ClassVar[ModuleType] = triton_rows
    device: ClassVar[str] = "cpu" if INTERPRETED else "cuda"
    rounds_bf16 = not INTERPRETED

    def described_sum(self, x: Tensor) -> Tensor:
        """Column c goes to lane c mod BLOCK, in ascending order; then lanes in pairs."""
        block = triton_rows.BLOCK.value
        lanes = torch.zeros(len(x), block, device=x.device)
        for columns in x.split(block, dim=1):
            lanes[:, : columns.shape[1]] += columns
        while lanes.shape[1] > 1:
            lanes = lanes[:, 0::2] + lanes[:, 1::2]
        return lanes[:, 0]


@native_or_interpreted
class TestTritonAttention:
    """The paged attention, with splits small enough that several have to be joined."""

    device = torch.device("cpu" if INTERPRETED else "cuda")

    @pytest.fixture(autouse=True)
    def small_splits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(triton_attention, "SPLIT", 64)

    def verify(self, name: str, heads: tuple[int, int, int], tokens: int, text: str, *chosen: str) -> Verification:
        count = 5 if INTERPRETED else 40  # the interpreter takes a second for what a GPU does in microseconds
        subject = self.subject(name, heads, tokens, text, count)
        sizes = (1, count) if INTERPRETED else sweep(count)
        setting = Setting(count, sizes, longest=2 if INTERPRETED else tokens)
        return Verifier(subject, 0).verify([relations()[name] for name in chosen], setting, [1])

    def subject(self, name: str, heads: tuple[int, int, int], tokens: int, text: str, count: int) -> KernelUnderTest:
        """A universe that begins with sequences long enough for several splits."""
        query_heads, kv_heads, size = heads
        shape = Shape(label="test", heads=query_heads, kv_heads=kv_heads, k=size, page=16, tokens=tokens)
        case = Case(arm="samebits", operator=name, shape=shape, precision=Precision.parse(text))
        operator = operators()[name].with_lengths((tokens, tokens // 2 + 1))
        return KernelUnderTest(case, operator, triton_attention.attention, seed=0, universe=count, device=self.device)

    @pytest.mark.parametrize(("heads", "text"), [((4, 2, 16), "bf16"), ((3, 1, 24), "fp16"), ((2, 2, 64), "bf16")])
    def test_decode_keeps_its_bits_over_joined_splits(self, heads: tuple[int, int, int], text: str) -> None:
        found = self.verify("attention_decode", heads, 129, text, "batch_size", "page_placement", "neighbour_length")
        assert found.wrong == ""
        assert found.verdict == "sampled"

    @pytest.mark.parametrize(("name", "text"), [("attention_prefill", "bf16"), ("attention_mixed", "fp16")])
    def test_prefill_keeps_its_bits_in_chunks_and_by_decode(self, name: str, text: str) -> None:
        found = self.verify(name, (4, 2, 16), 17 if INTERPRETED else 129, text, "chunking", "prefill_decode")
        assert found.wrong == ""
        assert found.verdict == "sampled"

    @pytest.mark.parametrize(("name", "text"), [("attention_decode", "bf16"), ("attention_mixed", "fp16")])
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

    def test_special_sequences_have_the_same_bits_alone_and_among_others(self) -> None:
        made = self.subject("attention_decode", (4, 2, 16), 161, "bf16", 12)
        together = make_batch("special:10:0", 12)
        expected = dict(zip(made.lines(together).ids.tolist(), made.run(together)[0], strict=True))
        for spec in (*(f"special:1:{number}" for number in range(10)), "special:7:2", "special:12:8"):
            batch = make_batch(spec, 12)
            lines, (found,) = made.lines(batch), made.run(batch)
            assert all(same_bits(found[place], expected[int(lines.ids[place])]) for place in lines.compared), spec


@native_or_interpreted
class TestTritonRouted:
    """Rows that choose experts or an adapter."""

    @pytest.mark.parametrize(
        ("name", "text"),
        [("moe_experts", "fp16"), ("moe_gating", "fp32"), ("lora_shrink", "fp32"), ("lora_expand", "fp16")],
    )
    def test_rows_keep_their_bits_whoever_chose_what(self, name: str, text: str) -> None:
        kernel = routed.kernels(triton_gemm, triton_rows, triton_layers)[name]
        looked_at = ("position", "neighbour_content", "neighbour_routing")
        slow = {*relations()} - {*looked_at} if INTERPRETED else set()
        universe, device = (5, "cpu") if INTERPRETED else (65, "cuda")
        found = routed_cases.verified(name, kernel, text, universe, *slow, device=device)
        assert found.wrong == ""
        assert found.verdict == "sampled", [result for result in found.relations if result.status != "held"]


@pytest.mark.skipif(INTERPRETED, reason="this is its process")
def test_under_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    child = subprocess.run(
        command,
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", **ROWS_ALIKE},
        capture_output=True,
        text=True,
        check=False,
    )
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
