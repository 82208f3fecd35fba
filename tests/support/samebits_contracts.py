"""What the samebits arm promises, in whatever language its kernels are written."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels_bench.device.triton_interpreter import interpreting

RowFunction = Callable[[Tensor], Tensor]


DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])


HOSTILE = (float("nan"), float("inf"), float("-inf"), 6e4)


# Interpreted, a row is a program of its own, and 33 of them take a second.
PREFIXES = (1, 2, 17) if interpreting() else (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 32)


def examples(most: int) -> settings:
    """The same ones each time; half as many where kernels are interpreted, which takes a thousand times as long."""
    return settings(
        max_examples=most // 2 if interpreting() else most,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.differing_executors],  # the contracts are inherited
    )


def bits(x: Tensor) -> Tensor:
    """The raw bits: unlike values, they tell -0.0 from 0.0 and NaN from nothing."""
    return x.contiguous().view({4: torch.int32, 2: torch.int16}[x.element_size()])


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    wrong = (bits(actual) != bits(expected)).nonzero()
    assert len(wrong) == 0, f"{len(wrong)} elements differ, first at {wrong[0].tolist()}"


def half_ulp(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps / 2


class Contract:
    """What a subclass says of the arm under test."""

    ops: ClassVar[ModuleType]
    device: ClassVar[str] = "cpu"
    rounds_bf16 = True  # Triton's interpreter truncates instead

    def randn(self, *shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*shape, generator=generator).to(dtype).to(self.device)

    def tolerance(self, dtype: torch.dtype) -> float:
        """The relative error of one rounding to `dtype`, with a little for the fp32 before it."""
        return half_ulp(dtype) * (1.01 if self.rounds_bf16 or dtype != torch.bfloat16 else 2.01)

    def check_company(self, function: RowFunction, rows: Tensor, seed: int) -> None:
        """`function` of many rows gives each row the bits it has alone, wherever it stands."""
        whole = function(rows)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(rows), generator=generator).to(self.device)
        assert_same_bits(function(rows[order]), whole[order])
        assert_same_bits(function(rows[:1]), whole[:1])
        some = int(torch.randint(1, len(rows) + 1, (), generator=generator))
        assert_same_bits(function(rows[:some]), whole[:some])

        hostile = torch.rand(len(rows), generator=generator) < 0.7
        among = rows.clone()
        for i in hostile.nonzero().flatten().tolist():
            among[i] = HOSTILE[i % len(HOSTILE)]
        kept = ~hostile.to(self.device)
        together = function(among)
        assert_same_bits(together[kept], whole[kept])
        for i in range(len(rows)):  # the hostile ones have rights too
            assert_same_bits(function(among[i : i + 1]), together[i : i + 1])


class GemmContract(Contract):
    """Promises of mm, linear, addmm and bmm."""

    SIZES = st.one_of(st.sampled_from([1, 2, 5, 7, 16, 64, 65, 128, 129]), st.integers(1, 200))

    def check_close(self, actual: Tensor, a: Tensor, b: Tensor, bias: Tensor | None = None) -> None:
        """Within the worst case of an fp32 sum in any order, rounded once."""
        added = torch.zeros((), dtype=torch.float64, device=a.device) if bias is None else bias.double()
        a, b = a.double(), b.double()
        expected = a @ b + added
        slack = (a.shape[-1] + 2) * half_ulp(torch.float32) * (a.abs() @ b.abs() + added.abs())
        limit = self.tolerance(actual.dtype) * (expected.abs() + slack) + slack
        assert ((actual.double() - expected).abs() <= limit).all()

    @given(k=SIZES, n=SIZES, dtype=DTYPES, m=st.integers(1, 70), seed=st.integers(0, 99))
    @examples(12)
    def test_is_accurate(self, k: int, n: int, dtype: torch.dtype, m: int, seed: int) -> None:
        a, b = self.randn(m, k, dtype=dtype, seed=seed), self.randn(k, n, dtype=dtype, seed=seed + 1)
        weight, bias = b.t().contiguous(), self.randn(n, dtype=dtype, seed=seed + 2)
        for out_dtype in (None, torch.float32):
            assert self.ops.mm(a, b, out_dtype=out_dtype).dtype == (out_dtype or dtype)
            self.check_close(self.ops.mm(a, b, out_dtype=out_dtype), a, b)
            self.check_close(self.ops.linear(a, weight, out_dtype=out_dtype), a, b)
            self.check_close(self.ops.linear(a, weight, bias, out_dtype=out_dtype), a, b, bias)
            self.check_close(self.ops.addmm(bias, a, b, out_dtype=out_dtype), a, b, bias)

    @given(
        k=SIZES,
        n=SIZES,
        dtype=DTYPES,
        m=st.integers(1, 33),
        transposed=st.booleans(),
        seed=st.integers(0, 99),
    )
    @examples(12)
    def test_company_does_not_show(
        self, k: int, n: int, dtype: torch.dtype, m: int, transposed: bool, seed: int
    ) -> None:
        rows, weight = self.randn(m, k, dtype=dtype, seed=seed), self.randn(n, k, dtype=dtype, seed=seed + 1)
        b = weight.t() if transposed else weight.t().contiguous()
        out_dtype = torch.float32 if seed % 2 else None
        self.check_company(lambda x: self.ops.mm(x, b, out_dtype=out_dtype), rows, seed)

    @pytest.mark.parametrize(("k", "n"), [(64, 5), (100, 7), (513, 8), (7, 4), (515, 1), (1, 33)])
    def test_place_does_not_show(self, k: int, n: int) -> None:
        """Equal rows have equal results. MKL breaks this in a padded tile, at these very shapes."""
        rows, weight = self.randn(1, k).expand(16, k), self.randn(n, k)
        for b in (weight.t(), weight.t().contiguous()):
            result = self.ops.mm(rows, b)
            assert_same_bits(result, result[:1].expand(16, n))

    @pytest.mark.parametrize("op", ["mm", "linear", "addmm", "bmm"])
    def test_every_prefix_has_the_same_bits(self, op: str) -> None:
        a, b, bias = self.randn(33, 75), self.randn(75, 20), self.randn(20)
        runs: dict[str, RowFunction] = {
            "mm": lambda rows: self.ops.mm(rows, b),
            "linear": lambda rows: self.ops.linear(rows, b.t(), bias),
            "addmm": lambda rows: self.ops.addmm(bias, rows, b),
            "bmm": lambda rows: self.ops.bmm(rows[None], b[None])[0],
        }
        run = runs[op]
        whole = run(a)
        for m in range(1, 33):
            assert_same_bits(run(a[:m]), whole[:m])

    @given(
        dtype=DTYPES,
        batches=st.integers(1, 5),
        m=st.integers(1, 9),
        k=SIZES,
        n=SIZES,
        seed=st.integers(0, 99),
    )
    @examples(8)
    def test_bmm_takes_any_strides(self, dtype: torch.dtype, batches: int, m: int, k: int, n: int, seed: int) -> None:
        """Batches, rows and the transposed views of either matrix change no bit."""
        a = self.randn(m, batches, k, dtype=dtype, seed=seed).transpose(0, 1)  # as heads arrive
        b = self.randn(batches, n, k, dtype=dtype, seed=seed + 1).transpose(1, 2)
        result = self.ops.bmm(a, b)
        self.check_close(result, a, b)
        assert_same_bits(self.ops.bmm(a.contiguous(), b), result)
        assert_same_bits(self.ops.bmm(a.transpose(1, 2).contiguous().transpose(1, 2), b), result)
        assert_same_bits(self.ops.bmm(a[-1:], b[-1:]), result[-1:])
        assert_same_bits(self.ops.mm(a[0], b[0]), result[0])

    def test_rows_may_lie_apart(self) -> None:
        wide, b = self.randn(9, 150), self.randn(70, 40)
        apart = wide[:, 3:73]
        assert_same_bits(self.ops.mm(apart, b), self.ops.mm(apart.contiguous(), b))
        assert_same_bits(self.ops.mm(apart[::2], b), self.ops.mm(apart, b)[::2])

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_sixteen_bits_are_the_fp32_result_rounded_once(self, dtype: torch.dtype) -> None:
        if dtype == torch.bfloat16 and not self.rounds_bf16:
            pytest.skip("the interpreter truncates")
        a, b, bias = (self.randn(*shape, dtype=dtype) for shape in ((20, 300), (300, 50), (50,)))
        exact = self.ops.addmm(bias, a, b, out_dtype=torch.float32)
        assert not torch.equal(exact, exact.to(dtype).float())
        assert_same_bits(self.ops.addmm(bias, a, b), exact.to(dtype))

    def test_no_rows(self) -> None:
        assert self.ops.mm(self.randn(0, 5), self.randn(5, 7)).shape == (0, 7)
        assert self.ops.bmm(self.randn(2, 0, 5), self.randn(2, 5, 7)).shape == (2, 0, 7)

    def test_what_does_not_fit_is_refused(self) -> None:
        a, b = self.randn(3, 4), self.randn(5, 6)
        calls: tuple[Callable[[], object], ...] = (
            lambda: self.ops.mm(a, b),
            lambda: self.ops.linear(a, b),
            lambda: self.ops.addmm(self.randn(5), a, self.randn(4, 6)),
            lambda: self.ops.bmm(a, b),
            lambda: self.ops.bmm(self.randn(2, 3, 4), self.randn(3, 4, 5)),
        )
        for call in calls:
            with pytest.raises(ValueError, match=r"cannot multiply|bias must"):
                call()
        with pytest.raises(TypeError, match="share one dtype"):
            self.ops.mm(a, a.t().half())
        with pytest.raises(TypeError, match="share one dtype"):
            self.ops.mm(a.double(), a.t().double())
        with pytest.raises(TypeError, match="out_dtype"):
            self.ops.mm(a, a.t(), out_dtype=torch.float16)


class RowsContract(Contract):
    """Promises of the norms, softmax, log_softmax and mean."""

    OPS = ("rms_norm", "normed", "summed", "softmax", "log_softmax", "mean")
    LENGTHS = st.one_of(st.sampled_from([1, 2, 17, 1023, 1024, 1025]), st.integers(1, 2500))

    def described_sum(self, x: Tensor) -> Tensor:
        """The sum of each row, added in the order that the kernel describes."""
        raise NotImplementedError

    def function(self, op: str, n: int, dtype: torch.dtype, out_dtype: torch.dtype | None = None) -> RowFunction:
        """`op` as a function of its rows alone; the fused norm takes its residual from the row itself."""
        weight = self.randn(n, dtype=dtype, seed=7)
        return {
            "rms_norm": lambda x: self.ops.rms_norm(x, weight, 1e-6),
            "normed": lambda x: self.ops.fused_add_rms_norm(x, x.flip(1), weight, 1e-6)[0],
            "summed": lambda x: self.ops.fused_add_rms_norm(x, x.flip(1), weight, 1e-6)[1],
            "softmax": lambda x: self.ops.softmax(x, out_dtype=out_dtype),
            "log_softmax": lambda x: self.ops.log_softmax(x, out_dtype=out_dtype),
            "mean": lambda x: self.ops.mean(x, out_dtype=out_dtype),
        }[op]

    @given(n=LENGTHS, dtype=DTYPES, m=st.integers(1, 4), seed=st.integers(0, 99))
    @examples(12)
    def test_is_accurate(self, n: int, dtype: torch.dtype, m: int, seed: int) -> None:
        x, residual = (
            self.randn(m, n, dtype=dtype, seed=seed) * 3,
            self.randn(m, n, dtype=dtype, seed=seed + 1),
        )
        weight = self.randn(n, dtype=dtype, seed=7)
        summed = self.ops.fused_add_rms_norm(x, residual, weight, 1e-6)[1]

        def rms_norm(x: Tensor) -> Tensor:
            return x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt() * weight.double()

        def close(actual: Tensor, expected: Tensor, slack: float = 1e-6) -> None:
            limit = self.tolerance(actual.dtype) * expected.abs() + slack * (1 + expected.abs())
            assert ((actual.double() - expected).abs() <= limit).all()

        close(self.ops.rms_norm(x, weight, 1e-6), rms_norm(x.double()))
        close(summed, x.double() + residual.double())
        close(self.ops.fused_add_rms_norm(x, residual, weight, 1e-6)[0], rms_norm(summed.double()))
        for out_dtype in (None, torch.float32):
            assert self.ops.softmax(x, out_dtype=out_dtype).dtype == (out_dtype or dtype)
            close(self.ops.softmax(x, out_dtype=out_dtype), x.double().softmax(1))
            close(self.ops.log_softmax(x, out_dtype=out_dtype), x.double().log_softmax(1))
            close(self.ops.mean(x, out_dtype=out_dtype), x.double().mean(1))

    @pytest.mark.parametrize("op", OPS)
    @given(n=LENGTHS, dtype=DTYPES, m=st.integers(1, 6), seed=st.integers(0, 99))
    @examples(5)
    def test_company_does_not_show(self, op: str, n: int, dtype: torch.dtype, m: int, seed: int) -> None:
        out_dtype = torch.float32 if seed % 2 else None
        rows = self.randn(m, n, dtype=dtype, seed=seed)
        self.check_company(self.function(op, n, dtype, out_dtype), rows, seed)

    @pytest.mark.parametrize("op", OPS)
    def test_prefixes_have_the_same_bits(self, op: str) -> None:
        rows, run = self.randn(33, 37), self.function(op, 37, torch.float32)
        whole = run(rows)
        for m in PREFIXES:
            assert_same_bits(run(rows[:m]), whole[:m])

    @pytest.mark.parametrize("op", OPS)
    def test_place_in_memory_does_not_show(self, op: str) -> None:
        """Rows apart, rows off every alignment, columns apart: other loads, the same sums."""
        rows, run = self.randn(3, 1200), self.function(op, 1200, torch.float32)
        whole = run(rows)
        for offset, width in ((0, 1216), (1, 1201), (3, 1300)):
            home = self.randn(3, width + 8)
            home[:, offset : offset + 1200] = rows
            assert_same_bits(run(home[:, offset : offset + 1200]), whole)
        assert_same_bits(run(rows.t().contiguous().t()), whole)

    def test_fused_add_rms_norm_leaves_its_inputs_alone(self) -> None:
        x, residual, weight = self.randn(3, 50), self.randn(3, 50, seed=1), self.randn(50)
        before = x.clone(), residual.clone()
        normed, summed = self.ops.fused_add_rms_norm(x, residual, weight, 1e-6)
        assert_same_bits(x, before[0])
        assert_same_bits(residual, before[1])
        assert_same_bits(summed, x + residual)
        assert_same_bits(normed, self.ops.rms_norm(summed, weight, 1e-6))

    @pytest.mark.parametrize("n", [1, 5, 1024, 3000])
    def test_the_order_of_a_sum_is_the_one_described(self, n: int) -> None:
        """Against the same additions one by one: equal bits, so the order is read out, not only constant."""
        x = self.randn(4, n)
        assert_same_bits(self.ops.mean(x), self.described_sum(x) / torch.tensor(n, device=self.device))

    def test_a_vocabulary(self) -> None:
        x = self.randn(2, 20_003 if interpreting() else 151_936)
        assert ((self.ops.softmax(x).double() - x.double().softmax(1)).abs() < 1e-9).all()
        assert_same_bits(self.ops.log_softmax(x[1:]), self.ops.log_softmax(x)[1:])

    def test_no_rows(self) -> None:
        x, weight = self.randn(0, 5), self.randn(5)
        assert self.ops.rms_norm(x, weight, 1e-6).shape == (0, 5)
        assert [y.shape for y in self.ops.fused_add_rms_norm(x, x, weight, 1e-6)] == [(0, 5)] * 2
        assert self.ops.softmax(x).shape == self.ops.log_softmax(x).shape == (0, 5)
        assert self.ops.mean(x).shape == (0,)

    def test_what_does_not_fit_is_refused(self) -> None:
        x, weight = self.randn(3, 4), self.randn(5)
        calls: tuple[Callable[[], object], ...] = (
            lambda: self.ops.rms_norm(x, weight, 1e-6),
            lambda: self.ops.fused_add_rms_norm(x, self.randn(2, 4), self.randn(4), 1e-6),
            lambda: self.ops.softmax(weight),
            lambda: self.ops.log_softmax(x[:, :0]),
            lambda: self.ops.mean(x[None]),
        )
        for call in calls:
            with pytest.raises(ValueError, match="must have shape"):
                call()
        with pytest.raises(TypeError, match="share one dtype"):
            self.ops.rms_norm(x, self.randn(4).half(), 1e-6)
        with pytest.raises(TypeError, match="out_dtype"):
            self.ops.softmax(x.half(), out_dtype=torch.bfloat16)


class LayersContract(Contract):
    """Promises of activations, rotary embeddings, further norms and log probabilities."""

    OPS = (
        *("silu_and_mul", "gelu_and_mul", "gelu_tanh_and_mul", "rotary"),
        *("layer_norm", "gemma_rms_norm", "qk_norm", "logprobs"),
    )
    LENGTHS = st.one_of(st.sampled_from([2, 34, 1022, 1024, 1026, 2050]), st.integers(1, 1200).map(lambda n: 2 * n))

    def function(self, op: str, n: int, dtype: torch.dtype) -> RowFunction:
        """`op` as a function of its rows alone: positions and tokens follow from the row itself."""
        weight, bias = self.randn(n, dtype=dtype, seed=7), self.randn(n, dtype=dtype, seed=8)
        table, heads = self.randn(16, n, dtype=dtype, seed=9), 2

        def number(x: Tensor, below: int) -> Tensor:
            return bits(x)[:, 0].long().remainder(below)

        def rotary(x: Tensor) -> Tensor:
            q = torch.cat([x, x.flip(1)], 1)
            return torch.cat(self.ops.rotary(number(x, len(table)), q, x, n, table), 1)

        def qk_norm(x: Tensor) -> Tensor:
            normed: Tensor = self.ops.qk_norm(torch.stack([x, x.flip(1)], 1), weight, 1e-6)
            assert normed.shape == (len(x), heads, n)
            return normed.flatten(1)

        functions: dict[str, RowFunction] = {
            "rotary": rotary,
            "layer_norm": lambda x: self.ops.layer_norm(x, weight, bias, 1e-6),
            "gemma_rms_norm": lambda x: self.ops.gemma_rms_norm(x, weight, 1e-6),
            "qk_norm": qk_norm,
            "logprobs": lambda x: self.ops.logprobs(x, number(x, n)),
        }
        return functions[op] if op in functions else getattr(self.ops, op)

    def exact(self, op: str, x: Tensor, n: int, dtype: torch.dtype) -> Tensor:
        """The same by torch in float64."""
        weight, bias = (self.randn(n, dtype=dtype, seed=seed).double() for seed in (7, 8))
        wide, f = x.double(), torch.nn.functional
        if op.endswith("_and_mul"):
            gate, up = wide.chunk(2, 1)
            tanh = functools.partial(f.gelu, approximate="tanh")
            named: dict[str, RowFunction] = {"silu": f.silu, "gelu": f.gelu, "gelu_tanh": tanh}
            return named[op.removesuffix("_and_mul")](gate) * up
        if op == "rotary":
            cos, sin = self.randn(16, n, dtype=dtype, seed=9).double()[bits(x)[:, 0].long().remainder(16)].chunk(2, 1)

            def turned(head: Tensor) -> Tensor:
                one, other = head.chunk(2, 1)
                return torch.cat([one * cos - other * sin, other * cos + one * sin], 1)

            return torch.cat([turned(wide), turned(wide.flip(1)), turned(wide)], 1)
        if op == "layer_norm":
            return f.layer_norm(wide, (n,), weight, bias, 1e-6)
        if op == "logprobs":
            tokens = bits(x)[:, :1].long().remainder(n)
            return wide.log_softmax(1).gather(1, tokens)[:, 0]
        scale = (wide.square().mean(1, keepdim=True) + 1e-6).rsqrt()
        if op == "gemma_rms_norm":
            return wide * scale * (1 + weight)
        return torch.cat([wide * scale * weight, wide.flip(1) * scale * weight], 1)

    @pytest.mark.parametrize("op", OPS)
    @given(n=LENGTHS, dtype=DTYPES, m=st.integers(1, 4), seed=st.integers(0, 99))
    @examples(5)
    def test_is_accurate(self, op: str, n: int, dtype: torch.dtype, m: int, seed: int) -> None:
        x = self.randn(m, n, dtype=dtype, seed=seed) * 3
        actual, expected = self.function(op, n, dtype)(x), self.exact(op, x, n, dtype)
        assert actual.dtype == dtype
        assert actual.shape == expected.shape
        slack = 4e-6 * (1 + expected.abs() + (x.double().abs().amax(1).view(-1, *[1] * (expected.dim() - 1))))
        assert ((actual.double() - expected).abs() <= self.tolerance(dtype) * expected.abs() + slack).all()

    @pytest.mark.parametrize("op", OPS)
    @given(n=LENGTHS, dtype=DTYPES, m=st.integers(1, 6), seed=st.integers(0, 99))
    @examples(4)
    def test_company_does_not_show(self, op: str, n: int, dtype: torch.dtype, m: int, seed: int) -> None:
        self.check_company(self.function(op, n, dtype), self.randn(m, n, dtype=dtype, seed=seed), seed)

    @pytest.mark.parametrize("op", OPS)
    def test_prefixes_have_the_same_bits(self, op: str) -> None:
        rows, run = self.randn(33, 38), self.function(op, 38, torch.float32)
        whole = run(rows)
        for m in PREFIXES:
            assert_same_bits(run(rows[:m]), whole[:m])

    @pytest.mark.parametrize("op", OPS)
    def test_no_rows(self, op: str) -> None:
        assert len(self.function(op, 6, torch.float32)(self.randn(0, 6))) == 0

    def test_what_does_not_fit_is_refused(self) -> None:
        x, table, ids = self.randn(3, 6), self.randn(5, 4), torch.zeros(3, dtype=torch.int64, device=self.device)
        calls: tuple[Callable[[], object], ...] = (
            lambda: self.ops.silu_and_mul(x[:, :5]),
            lambda: self.ops.gelu_and_mul(x[0]),
            lambda: self.ops.rotary(ids, x, x, 4, table),
            lambda: self.ops.layer_norm(x, self.randn(6), self.randn(5), 1e-6),
            lambda: self.ops.gemma_rms_norm(x, self.randn(5), 1e-6),
            lambda: self.ops.logprobs(x, ids[:2]),
        )
        for call in calls:
            with pytest.raises(ValueError, match=r"must have|no heads"):
                call()
        with pytest.raises(TypeError, match="share one dtype"):
            self.ops.layer_norm(x, self.randn(6).half(), self.randn(6), 1e-6)


class SamplingContract(Contract):
    """Promises of cumulative sums, and of the cut of top-k and top-p."""

    @pytest.mark.parametrize("n", [1, 1003])
    def test_each_row_is_added_as_if_it_were_alone(self, n: int) -> None:
        self.check_company(self.ops.cumsum, self.randn(3 if interpreting() else 9, n), n)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    def test_sums_are_right(self, dtype: torch.dtype) -> None:
        x = self.randn(5, 1003, dtype=dtype)
        exact = x.double().cumsum(1)
        error = (self.ops.cumsum(x).double() - exact).abs()
        assert bool((error <= self.tolerance(dtype) * exact.abs() + 1e-6).all())

    def test_what_stands_before_an_infinity_is_added_without_it(self) -> None:
        inf, ninf = float("inf"), float("-inf")
        row = torch.full((1003,), ninf)
        row[0], row[1:3] = 4.0, torch.tensor([2.0, ninf])
        mixed = torch.ones(1003)
        mixed[0], mixed[900] = inf, ninf
        x = torch.stack([row, mixed]).to(self.device)
        found, exact = self.ops.cumsum(x).double(), x.double().cumsum(1)
        torch.testing.assert_close(found, exact, rtol=0, atol=0, equal_nan=True)

    def test_top_k_and_top_p_keep_what_they_name(self) -> None:
        logits = torch.tensor([[0.0, 3.0, 2.0, 1.0], [1.0, 1.0, 0.0, 0.0], [5.0, 0.0, 0.0, 0.0]], device=self.device)
        k, p = torch.tensor([2, 1, 4], device=self.device), torch.tensor([1.0, 1.0, 0.5], device=self.device)
        inf = float("inf")
        # Of equal logits at the edge of the k largest both stay.
        expected = [[-inf, 3, 2, -inf], [1, 1, -inf, -inf], [5, -inf, -inf, -inf]]
        assert self.ops.top_k_top_p(logits, k, p).tolist() == expected

    def test_a_share_of_1_leaves_nothing_out(self) -> None:
        logits = self.randn(3, 1003) * 3
        k, p = torch.full((3,), 1003, device=self.device), torch.ones(3, device=self.device)
        assert_same_bits(self.ops.top_k_top_p(logits.clone(), k, p), logits)
