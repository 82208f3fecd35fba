"""cuBLASLt's algorithms one by one: which there are, and on a GPU with nvmath-python, what they compute."""

import importlib.util
import tomllib

import pytest
import torch
from torch import Tensor

from kernels_bench.arms.base import Kernel
from kernels_bench.arms.pytorch.cublas_restricted import ARM, candidates
from kernels_bench.arms.pytorch.cublas_restricted.algorithms import ALGORITHMS, Algorithm
from kernels_bench.records.cases import Device
from profiles.installing import pip_install
from support import ROOT
from support.samebits_contracts import assert_same_bits

CPU, CUDA = Device(type="cpu", name="CPU"), Device(type="cuda", name="GPU", capability=(9, 0))
NVMATH = importlib.util.find_spec("nvmath") is not None
K, N = 528, 136


def test_each_algorithm_has_a_label_of_its_own() -> None:
    assert len({one.label for one in ALGORITHMS}) == len(ALGORITHMS)
    assert Algorithm(2).label == "algorithm2"
    assert Algorithm(1, parts=4).label == "algorithm1-4parts"
    assert Algorithm(1, rows=128).label == "algorithm1-of-M128"


def test_algorithms_in_as_many_parts_are_meant_to_add_in_one_order() -> None:
    assert Algorithm(1).order == Algorithm(5, rows=16).order != Algorithm(1, parts=2).order


def test_there_are_none_without_a_gpu_or_without_the_bindings() -> None:
    assert not candidates(CPU)
    assert bool(candidates(CUDA)) is NVMATH


def test_where_there_are_none_on_a_gpu_a_plan_says_how_they_are_had() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (bindings,) = extras["cublaslt"]
    assert ARM.lacking(CPU) == ""
    assert (ARM.lacking(CUDA) == "") is NVMATH
    assert NVMATH or ARM.lacking(CUDA).endswith(pip_install(bindings))


def on_a_gpu(algorithm: Algorithm, operator: str) -> Kernel:
    return candidates(CUDA)[algorithm.label].kernels()[operator]


def data(dtype: torch.dtype, m: int, k: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*size, generator=generator) for size in ((m, k), (n, k), (n,)))
    return x.to(dtype).cuda(), weight.to(dtype).cuda(), bias.to(dtype).cuda()


@pytest.mark.gpu
@pytest.mark.skipif(not (torch.cuda.is_available() and NVMATH), reason="needs a GPU and nvmath-python")
class TestOnAGpu:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
    @pytest.mark.parametrize("m", [1, 2, 70, 300])
    @pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda one: one.label)
    def test_they_multiply(self, algorithm: Algorithm, m: int, dtype: torch.dtype) -> None:
        x, weight, bias = data(dtype, m, K, N)
        exact = x.double() @ weight.double().t()
        with_bias, contiguous = exact + bias.double(), weight.t().contiguous()
        for operator, arguments, expected in (
            ("linear", (x, weight), exact),
            ("linear_bias", (x, weight, bias), with_bias),
            ("mm", (x, contiguous), exact),
            ("addmm", (bias, x, contiguous), with_bias),
        ):
            found = on_a_gpu(algorithm, operator)(*arguments)
            torch.testing.assert_close(found.double(), expected, rtol=2**-7, atol=0.05)

    def test_rows_of_any_strides_and_addresses(self) -> None:
        linear = on_a_gpu(Algorithm(1), "linear")
        x, weight, _ = data(torch.bfloat16, 70, K, N)
        expected = linear(x, weight)
        wide = torch.zeros(70, K + 8, dtype=x.dtype, device="cuda")
        wide[:, :K] = x
        assert_same_bits(linear(wide[:, :K], weight), expected)
        exact = x.double() @ weight.double().t()
        odd = torch.zeros(70 * K + 1, dtype=x.dtype, device="cuda")[1:].view(70, K).copy_(x)
        for rows in (odd, x.t().contiguous().t(), x.repeat_interleave(2, dim=1)[:, ::2]):
            torch.testing.assert_close(linear(rows, weight).double(), exact, rtol=2**-7, atol=0.05)

    @pytest.mark.parametrize(("k", "n"), [(1003, 257), (7, 1), (1, 5)])
    def test_unaligned_sizes(self, k: int, n: int) -> None:
        x, weight, bias = data(torch.float16, 33, k, n)
        found = on_a_gpu(Algorithm(1), "linear_bias")(x, weight, bias)
        expected = x.double() @ weight.double().t() + bias.double()
        torch.testing.assert_close(found.double(), expected, rtol=2**-9, atol=0.05)

    def test_nothing_to_compute(self) -> None:
        x, weight, _ = data(torch.bfloat16, 4, K, N)
        assert on_a_gpu(Algorithm(1), "linear")(x[:0], weight).shape == (0, N)

    def test_one_algorithm_for_all_sizes_keeps_a_rows_bits(self) -> None:
        linear = on_a_gpu(Algorithm(1, rows=128), "linear")
        x, weight, _ = data(torch.bfloat16, 300, 4096, 1024)
        whole = linear(x, weight)
        for m in (1, 2, 16, 65, 255):
            assert_same_bits(linear(x[:m], weight), whole[:m])

    def test_they_are_captured(self) -> None:
        linear = on_a_gpu(Algorithm(1, parts=4), "linear")
        x, weight, _ = data(torch.bfloat16, 16, 4096, 256)
        expected = linear(x, weight)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = linear(x, weight)
        graph.replay()
        assert_same_bits(captured, expected)


def test_the_arm_offers_them() -> None:
    assert ARM.candidates is candidates
