"""Operators: the reference is the mathematics, honest kernels pass it, and wrong ones do not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from kernels_bench.arms import Kernel
from kernels_bench.arms.pytorch.default import KERNELS
from kernels_bench.arms.samebits import GEMM
from kernels_bench.arms.samebits.cpu import gemm, rows
from kernels_bench.operators import Operator, RowTensors, Tensors, operators
from kernels_bench.operators.base import item_sizes
from kernels_bench.operators.inputs.rows import KINDS
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.relations import make_batch
from kernels_bench.relations.batch import FIRST_SPECIAL, SPECIAL
from kernels_bench.verification.bitwise import same_bits
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest, bind

CPU = torch.device("cpu")
ROWS = 48
Array = npt.NDArray[np.float64]
TimingChange = Callable[[RowTensors, Tensors], tuple[RowTensors, Tensors]]

GEMMS = ("mm", "linear", "linear_bias", "addmm", "bmm", "bmm_heads")
REDUCTIONS = ("rms_norm", "fused_add_rms_norm", "softmax", "log_softmax", "mean")
SIZES = {"bmm": {"n": 24, "k": 131}, "bmm_heads": {"b": 3, "n": 33, "k": 193}} | {
    name: {"k": 1003} for name in REDUCTIONS
}


def shape_of(name: str, **sizes: int) -> Shape:
    return Shape.model_validate({"label": "test"} | SIZES.get(name, {"n": 61, "k": 513}) | sizes)


def every_case(names: tuple[str, ...] = GEMMS + REDUCTIONS) -> list[Any]:
    return [
        pytest.param(name, precision, id=f"{name}-{precision}")
        for name in names
        for precision in operators()[name].precisions
    ]


def data(operator: Operator, shape: Shape, precision: Precision, count: int = ROWS) -> tuple[RowTensors, Tensors]:
    """Ordinary rows, and the weights."""
    tables = operator.rows(shape, count, precision.torch_input, 0, CPU)
    return tuple(table[:count] for table in tables), operator.weights(shape, precision.torch_input, 0, CPU)


def kernel_for(name: str, precision: Precision, shape: Shape) -> Kernel:
    """The torch arm's kernel; for what torch offers on CUDA only, its fp32 kernel on the widened inputs."""
    if name not in GEMMS or precision.input == precision.output:
        return bind(Case(arm="torch", operator=name, shape=shape, precision=precision), KERNELS)
    return lambda *arguments: KERNELS[name](*(a.float() for a in arguments), out_dtype=torch.float32)


def share(
    name: str,
    text: str,
    shape: Shape,
    change: TimingChange | None = None,
    kernel: Kernel | None = None,
    count: int = ROWS,
) -> float:
    """Worst error of a kernel as a share of the allowance; it alone sees changed inputs."""
    operator, precision = operators()[name], Precision.parse(text)
    rows, weights = data(operator, shape, precision, count)
    exact = operator.reference(rows, weights)
    allowed = operator.tolerance(rows, weights, exact, precision.torch_output)
    seen = change(*(tuple(t.clone() for t in ts) for ts in (rows, weights))) if change else (rows, weights)
    results = operator.split_result((kernel or kernel_for(name, precision, shape))(*operator.arguments(*seen)))
    return max(
        float(((got.double() - right).abs() / bound).nan_to_num(nan=torch.inf).max())
        for got, right, bound in zip(results, exact, allowed, strict=True)
    )


def independent(name: str, rows: list[Array], weights: list[Array], dtype: torch.dtype) -> list[Array]:
    """Each operator in numpy, from its definition."""
    x = rows[0]
    if name in ("mm", "addmm", "linear", "linear_bias"):
        product = np.einsum("mk,nk->mn" if name.startswith("linear") else "mk,kn->mn", x, weights[0])
        return [product + weights[1] if len(weights) == 2 else product]
    if name == "bmm":
        return [np.einsum("mtk,mkn->mtn", x, rows[1])]
    if name == "bmm_heads":
        return [np.einsum("mhk,hkn->mhn", x, weights[0])]
    if name == "mean":
        return [x.mean(-1)]
    if name in ("softmax", "log_softmax"):
        logarithm = x - np.logaddexp.reduce(x, axis=-1, keepdims=True)
        return [logarithm if name == "log_softmax" else np.exp(logarithm)]
    total = x + rows[1] if name == "fused_add_rms_norm" else x
    rounded = torch.from_numpy(total).to(dtype).double().numpy()
    normed = rounded * weights[0] / np.sqrt(np.square(rounded).mean(-1, keepdims=True) + 1e-6)
    return [normed, total] if name == "fused_add_rms_norm" else [normed]


def test_every_operator_is_tested_here_or_elsewhere() -> None:
    elsewhere = {name for name, operator in operators().items() if operator.rows_are != "rows"}
    elsewhere |= {name for name, operator in operators().items() if "cpu" in operator.by_request}  # test_layers
    assert set(operators()) - elsewhere == set(GEMMS + REDUCTIONS)


@pytest.mark.parametrize(("name", "text"), every_case())
def test_references_agree_with_numpy(name: str, text: str) -> None:
    operator, precision = operators()[name], Precision.parse(text)
    rows, weights = data(operator, shape_of(name), precision)
    first, second = ([t.double().numpy() for t in ts] for ts in (rows, weights))
    expected = independent(name, first, second, precision.torch_input)
    for got, right in zip(operator.reference(rows, weights), expected, strict=True):
        assert got.dtype is torch.float64
        np.testing.assert_allclose(got.numpy(), right, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("name", "text"), every_case())
def test_the_forms_of_references_allowances_and_results_are_those_announced(name: str, text: str) -> None:
    operator, precision, shape = operators()[name], Precision.parse(text), shape_of(name)
    rows, weights = data(operator, shape, precision)
    exact = operator.reference(rows, weights)
    allowed = operator.tolerance(rows, weights, exact, precision.torch_output)
    announced = operator.result_shapes(shape, ROWS)
    assert tuple(tuple(t.shape) for t in exact) == announced
    assert tuple(tuple(t.shape) for t in allowed) == announced
    assert all(bool((bound > 0).all()) and bool(bound.isfinite().all()) for bound in allowed)
    results = operator.split_result(kernel_for(name, precision, shape)(*operator.arguments(rows, weights)))
    assert tuple(tuple(t.shape) for t in results) == announced
    assert {t.dtype for t in results} == {precision.torch_output}


@pytest.mark.parametrize("name", GEMMS + REDUCTIONS)
def test_references_and_allowances_leave_their_inputs_alone(name: str) -> None:
    operator, precision = operators()[name], Precision.parse("fp32")
    rows, weights = data(operator, shape_of(name), precision)
    before = [t.clone() for t in (*rows, *weights)]
    operator.tolerance(rows, weights, operator.reference(rows, weights), torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(before, (*rows, *weights), strict=True))


@pytest.mark.parametrize("name", GEMMS + REDUCTIONS)
def test_hostile_and_special_rows_follow_the_ordinary_ones(name: str) -> None:
    operator, shape = operators()[name], shape_of(name)
    tables = operator.rows(shape, 6, torch.bfloat16, 0, CPU)
    assert {len(table) for table in tables} == {6 + FIRST_SPECIAL + len(SPECIAL)}
    assert all(table[:6].isfinite().all() for table in tables)
    huge, inf, nan, zero, instead_of_the_long_neighbour = tables[0][6 : 6 + FIRST_SPECIAL]
    assert (huge.abs() == torch.finfo(torch.bfloat16).max).all()
    assert inf.isinf().all()
    assert nan.isnan().all()
    assert not zero.any()
    assert not instead_of_the_long_neighbour.any()
    special = dict(zip(SPECIAL, tables[0][6 + FIRST_SPECIAL :], strict=True))
    assert (special["negative zero"].signbit() & (special["negative zero"] == 0)).all()
    assert int(special["NaN"].isnan().sum()) * shape.k == special["NaN"].numel()
    assert (special["masked"] == -torch.inf)[..., 0].all()


@pytest.mark.parametrize("text", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("name", GEMMS + REDUCTIONS)
def test_special_rows_have_the_same_bits_in_every_universe(name: str, text: str) -> None:
    dtype = Precision.parse(text).torch_input
    few, many = (operators()[name].rows(shape_of(name), count, dtype, 0, CPU) for count in (3, 8))
    for left, right in zip(few, many, strict=True):
        assert same_bits(left[3 + FIRST_SPECIAL :].contiguous(), right[8 + FIRST_SPECIAL :].contiguous())
        assert same_bits(left[:3].contiguous(), right[:3].contiguous())


def test_sums_of_two_special_rows_are_special() -> None:
    operator, shape = operators()["fused_add_rms_norm"], shape_of("fused_add_rms_norm")
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        x, residual = operator.rows(shape, 4, dtype, 0, CPU)
        total = dict(zip(SPECIAL, (x + residual)[4 + FIRST_SPECIAL :], strict=True))
        assert (total["subnormal"].abs() < 2 * torch.finfo(dtype).tiny).all()
        assert (total["negative zero"].signbit() & (total["negative zero"] == 0)).all()
        assert total["signed zeros"].signbit().tolist() == [bool(i % 2) for i in range(shape.k)]
        assert (int(total["NaN"].isnan().sum()), int(total["NaN"].isinf().sum())) == (1, 0)
        assert int((total["infinity"] == torch.inf).sum()) == 1
        assert int(total["largest"].isfinite().sum()) == shape.k
        assert len(total["constant"].unique()) == 1
        assert (int(total["infinity added"].isinf().sum()), int(total["NaN added"].isnan().sum())) == (1, 1)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("text", ["bf16", "fp32"])
def test_exponentials_of_a_row_of_logits_are_subnormal(name: str, text: str) -> None:
    (table,) = operators()[name].rows(shape_of(name), 4, Precision.parse(text).torch_input, 0, CPU)
    powers = table[4 + FIRST_SPECIAL].double().exp()
    assert int((powers == 1).sum()) == 1
    others = powers[powers < 1]
    assert bool((others < 2.0**-126).all())
    assert bool((others > 2.0**-151).all())


@pytest.mark.parametrize(("name", "text"), every_case())
def test_samebits_on_the_cpu_keeps_special_rows_in_every_batch(name: str, text: str) -> None:
    precision, shape, count = Precision.parse(text), shape_of(name), 12
    ours = getattr(gemm, GEMM[name]) if name in GEMM else getattr(rows, name)
    case = Case(arm="samebits", operator=name, shape=shape, precision=precision)
    subject = KernelUnderTest(case, operators()[name], bind(case, {name: ours}), seed=0, universe=count, device=CPU)
    together = make_batch(f"special:{len(SPECIAL)}:0", count)
    expected = dict(zip(together.rows.tolist(), zip(*subject.run(together), strict=True), strict=True))
    for spec in [f"special:1:{p}" for p in range(len(SPECIAL))] + [
        f"special:{m}:{p}" for m in (2, 7, 12) for p in (0, 5)
    ]:
        made = make_batch(spec, count)
        for place in made.compared:
            for got, wanted in zip(subject.run(made), expected[int(made.rows[place])], strict=True):
                assert same_bits(got[place].contiguous(), wanted.contiguous()), (
                    spec,
                    SPECIAL[int(made.rows[place]) - count - FIRST_SPECIAL],
                )


VIEWED = ("first:9", "from:7:4", "last:5", "first:1")
COPIED = ("reverse:5", "rotate:5:2", "from:7:13", "copies:2:1", "cycled:20", "shuffle:6:0", "nan:6:1")


@pytest.mark.parametrize("name", GEMMS + REDUCTIONS)
def test_a_view_is_what_would_be_gathered(name: str) -> None:
    operator, shape = operators()[name], shape_of(name, k=128)  # so that any four rows take a multiple of 256 bytes
    tables = operator.rows(shape, 16, torch.float32, 0, CPU)
    weights = operator.weights(shape, torch.float32, 0, CPU)
    for spec in VIEWED:
        made = make_batch(spec, 16)
        found, gathered = operator.view(made, tables), operator.gather(made, 16, shape, tables, weights)
        # Matrices that lie transposed in the universe are gathered as they are not; others are written into.
        if name in {"bmm", "fused_add_rms_norm"}:
            assert found is None
            continue
        assert found is not None
        for view, copy, table in zip(found, gathered, tables, strict=True):
            assert (view.shape, view.stride()) == (copy.shape, copy.stride())
            assert torch.equal(view, copy)
            assert view.untyped_storage().data_ptr() == table.untyped_storage().data_ptr()
    assert all(operator.view(make_batch(spec, 16), tables) is None for spec in COPIED)


def test_a_view_begins_where_new_tensors_would() -> None:
    operator, shape = operators()["mm"], shape_of("mm", k=33)  # 66 bytes a row
    tables = operator.rows(shape, 256, torch.bfloat16, 0, CPU)
    viewed = [first for first in range(250) if operator.view(make_batch(f"from:3:{first}", 256), tables) is not None]
    assert viewed == [0, 128]


@pytest.mark.parametrize(("name", "text"), every_case())
def test_a_huge_batch_has_more_elements_than_31_bits_count(name: str, text: str) -> None:
    operator, precision = operators()[name], Precision.parse(text)
    for shape in (shape_of(name), *operator.shapes):
        rows = operator.huge_rows(shape)
        tables = operator.rows(shape_of(name), 1, torch.bfloat16, 0, CPU)
        assert operator.row_sizes(shape_of(name)) == tuple(table[0].numel() for table in tables)
        results = [int(np.prod(sizes)) for sizes in operator.result_shapes(shape, rows)]
        largest = max(*results, *(rows * size for size in operator.row_sizes(shape)))
        assert largest > 2**31 + largest // rows
        assert largest - 4 * largest // rows < 2**31
        assert operator.huge_bytes(shape, precision) >= largest * min(item_sizes(precision))
        assert operator.far_bytes(shape, precision, 256) == 0


@pytest.mark.parametrize(("name", "text"), every_case())
def test_torch_is_within_the_allowance(name: str, text: str) -> None:
    assert share(name, text, shape_of(name)) <= 1


@pytest.mark.parametrize(("name", "text"), every_case())
def test_samebits_on_the_cpu_is_within_the_allowance(name: str, text: str) -> None:
    precision, shape = Precision.parse(text), shape_of(name)
    ours = getattr(gemm, GEMM[name]) if name in GEMM else getattr(rows, name)
    kernel = bind(Case(arm="samebits", operator=name, shape=shape, precision=precision), {name: ours})
    assert share(name, text, shape, kernel=kernel) <= 1


@pytest.mark.parametrize("k", [1, 2, 16, 300, 4099, 18432])
@pytest.mark.parametrize("text", ["bf16", "fp16", "fp32"])
def test_torch_is_within_the_allowance_at_any_length(k: int, text: str) -> None:
    assert share("mm", text, shape_of("mm", k=k, n=32)) <= 1
    for name in REDUCTIONS:
        if text in operators()[name].precisions:
            assert share(name, text, shape_of(name, k=k)) <= 1


def test_torch_is_within_the_allowance_of_terms_that_are_nearly_equal() -> None:
    """Shares of one, of a vocabulary: their exponentials all are about 1, and lanes add thousands of them in turn."""
    assert share("softmax", "fp32", shape_of("softmax", k=50_000)) <= 1


@pytest.mark.parametrize("k", [1003, 4096])
def test_norms_may_work_on_the_sum_before_or_after_rounding_it(k: int) -> None:
    def unrounded(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float) -> Tensors:
        total = x.float() + residual.float()
        normed = total * (total.square().mean(-1, keepdim=True) + eps).rsqrt() * weight.float()
        return normed.to(x.dtype), total.to(x.dtype)

    for text in ("bf16", "fp16", "fp32"):
        assert share("fused_add_rms_norm", text, shape_of("fused_add_rms_norm", k=k), kernel=unrounded) <= 1


# Wrong kernels: an honest one behind a change of its inputs, or one written wrong.


def without_the_last(terms: int) -> TimingChange:
    def change(rows: RowTensors, weights: Tensors) -> tuple[RowTensors, Tensors]:
        rows[0][..., -terms:] = 0
        return rows, weights

    return change


def truncated(rows: RowTensors, weights: Tensors) -> tuple[RowTensors, Tensors]:
    """fp32 inputs cut to TF32's ten bits of mantissa."""
    for values in (*rows, *weights):
        values.view(torch.int32).bitwise_and_(~0x1FFF)
    return rows, weights


@pytest.mark.parametrize(("name", "text"), every_case(GEMMS))
def test_dropping_the_last_sixteen_terms_is_wrong(name: str, text: str) -> None:
    assert share(name, text, shape_of(name), change=without_the_last(16)) > 1


@pytest.mark.parametrize("k", [64, 4096, 18432])
@pytest.mark.parametrize("text", ["bf16", "bf16:fp32", "fp16", "fp32"])
def test_dropping_the_last_sixteen_terms_is_wrong_at_any_length(k: int, text: str) -> None:
    assert share("mm", text, shape_of("mm", k=k, n=64), change=without_the_last(16)) > 1


@pytest.mark.parametrize(("name", "text"), every_case(REDUCTIONS))
def test_reductions_that_forget_the_last_sixteen_terms_are_wrong(name: str, text: str) -> None:
    def short(x: torch.Tensor, *rest: Any) -> Any:
        out_dtype = Precision.parse(text).torch_output
        cut = x[:, :-16].float()
        if name == "mean":
            return (cut.sum(-1) / x.shape[1]).to(out_dtype)
        if name.endswith("softmax"):
            logarithm = x.float() - cut.logsumexp(-1, keepdim=True)
            return (logarithm if name == "log_softmax" else logarithm.exp()).to(out_dtype)
        *residual, weight, eps = rest
        total = x + residual[0] if residual else x
        mean_square = total[:, :-16].float().square().sum(-1, keepdim=True) / x.shape[1]
        normed = (total.float() * (mean_square + eps).rsqrt() * weight.float()).to(out_dtype)
        return (normed, total) if residual else normed

    assert share(name, text, shape_of(name), kernel=short, count=512) > 1


@pytest.mark.parametrize("name", GEMMS)
def test_tf32_inside_an_fp32_product_is_wrong(name: str) -> None:
    assert share(name, "fp32", shape_of(name), change=truncated) > 1


@pytest.mark.parametrize("k", [64, 512, 4096, 18432])
def test_tf32_is_wrong_at_any_length(k: int) -> None:
    assert share("mm", "fp32", shape_of("mm", k=k, n=64), change=truncated) > 1


@pytest.mark.parametrize("name", GEMMS)
def test_a_sixteen_bit_result_passed_off_as_fp32_is_wrong(name: str) -> None:
    shape = shape_of(name)
    narrow = kernel_for(name, Precision.parse("bf16"), shape)
    assert share(name, "bf16:fp32", shape, kernel=lambda *arguments: narrow(*arguments).float()) > 1


@pytest.mark.parametrize("text", ["bf16", "fp16"])
def test_accumulating_in_sixteen_bits_is_wrong(text: str) -> None:
    def narrow(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(a), b.shape[1], dtype=a.dtype)
        for place in range(a.shape[1]):
            total += torch.outer(a[:, place], b[place])
        return total

    assert share("mm", text, shape_of("mm"), kernel=narrow) > 1


@pytest.mark.parametrize("text", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("name", ["linear_bias", "addmm"])
@pytest.mark.parametrize("fault", ["none", "shifted", "twice"])
def test_a_wrong_bias_is_wrong(name: str, text: str, fault: str) -> None:
    def change(rows: RowTensors, weights: Tensors) -> tuple[RowTensors, Tensors]:
        weight, bias = weights
        return rows, (weight, {"none": 0 * bias, "shifted": bias.roll(1), "twice": bias + bias}[fault])

    assert share(name, text, shape_of(name), change=change) > 1


def wrong_eps(value: float) -> Kernel:
    return lambda x, weight, eps: KERNELS["rms_norm"](x, weight, value)


@pytest.mark.parametrize("text", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_forgetting_or_mistaking_eps_is_wrong(text: str, eps: float) -> None:
    assert share("rms_norm", text, shape_of("rms_norm"), kernel=wrong_eps(eps), count=512) > 1


@pytest.mark.parametrize("text", ["bf16", "fp16", "fp32"])
def test_a_gross_eps_is_wrong(text: str) -> None:
    assert share("rms_norm", text, shape_of("rms_norm"), kernel=wrong_eps(0.1)) > 1


@pytest.mark.parametrize(("name", "text"), every_case(("softmax", "log_softmax")))
def test_forgetting_to_subtract_the_maximum_is_wrong(name: str, text: str) -> None:
    def naive(x: torch.Tensor) -> torch.Tensor:
        powers = x.float().exp()
        shares = powers / powers.sum(-1, keepdim=True)
        return (shares if name == "softmax" else shares.log()).to(Precision.parse(text).torch_output)

    assert share(name, text, shape_of(name), kernel=naive) > 1


@pytest.mark.parametrize(("name", "text"), every_case())
def test_one_wrong_element_is_wrong(name: str, text: str) -> None:
    operator, precision, shape = operators()[name], Precision.parse(text), shape_of(name)
    honest = kernel_for(name, precision, shape)

    def nearly(*arguments: Any) -> Any:
        result = honest(*arguments)
        for output in operator.split_result(result):
            # The element of a normal row that is largest: a nearly zero one may well be zero.
            row = output[KINDS.index("normal")]
            row[row.abs() == row.abs().max()] = 0 if row.dim() else 9
        return result

    assert share(name, text, shape, kernel=honest) <= 1
    assert share(name, text, shape, kernel=nearly) > 1


@pytest.mark.parametrize("name", GEMMS + REDUCTIONS)
def test_nan_is_wrong(name: str) -> None:
    honest = kernel_for(name, Precision.parse("fp32"), shape_of(name))

    def broken(*arguments: Any) -> Any:
        result = honest(*arguments)
        operators()[name].split_result(result)[0][-1] = torch.nan
        return result

    assert share(name, "fp32", shape_of(name), kernel=broken) == torch.inf


# Bytes and operations, counted by hand for 2 rows, K = 5, N = 3, three heads, sixteen rows in a bmm's entry.
BY_HAND = {
    ("mm", "bf16"): (2 * (10 + 15 + 6), 60),
    ("mm", "bf16:fp32"): (2 * (10 + 15) + 4 * 6, 60),
    ("mm", "fp32"): (4 * (10 + 15 + 6), 60),
    ("linear", "fp16"): (2 * (10 + 15 + 6), 60),
    ("linear_bias", "bf16"): (2 * (10 + 15 + 3 + 6), 60),
    ("addmm", "bf16:fp32"): (2 * (10 + 15 + 3) + 4 * 6, 60),
    ("bmm", "bf16"): (2 * 2 * (80 + 15 + 48), 960),
    ("bmm_heads", "fp32"): (4 * 3 * (10 + 15 + 6), 180),
    ("softmax", "bf16:fp32"): (2 * 10 + 4 * 10, 40),
    ("log_softmax", "fp32"): (4 * 20, 40),
    ("mean", "bf16"): (2 * 10 + 2 * 2, 10),
    ("mean", "bf16:fp32"): (2 * 10 + 4 * 2, 10),
}
NORMS_BY_HAND = {
    ("rms_norm", "bf16"): (2 * (10 + 5 + 10), 40),
    ("fused_add_rms_norm", "bf16"): (2 * (20 + 5 + 20), 50),
}


def counted(name: str, text: str) -> tuple[int, int]:
    sizes = {"b": 3, "n": 3, "k": 5}
    operator = operators()[name]
    shape = Shape.model_validate({"label": "by hand"} | {dim: sizes[dim] for dim in operator.dims})
    return operator.bytes_moved(shape, Precision.parse(text), 2), operator.operations(shape, 2)


@pytest.mark.parametrize("case", BY_HAND)
def test_bytes_and_operations_are_those_counted_by_hand(case: tuple[str, str]) -> None:
    assert counted(*case) == BY_HAND[case]


@pytest.mark.parametrize("case", NORMS_BY_HAND)
def test_norms_bytes_and_operations_are_those_counted_by_hand(case: tuple[str, str]) -> None:
    assert counted(*case) == NORMS_BY_HAND[case]


@pytest.mark.parametrize(
    "name",
    GEMMS + REDUCTIONS,
)
def test_bytes_are_those_of_the_tensors(name: str) -> None:
    operator, precision, shape = operators()[name], Precision.parse("bf16"), shape_of(name)
    rows, weights = data(operator, shape, precision)
    results = operator.split_result(kernel_for(name, precision, shape)(*operator.arguments(rows, weights)))
    assert operator.bytes_moved(shape, precision, ROWS) == sum(
        t.numel() * t.element_size() for t in (*rows, *weights, *results)
    )


PUBLISHED = {
    ("linear", "qwen3-8b/qkv_proj"): (6144, 4096),
    ("linear", "qwen3-1.7b/gate_up_proj"): (12288, 2048),
    ("linear", "llama-3.1-8b/down_proj"): (4096, 14336),
    ("linear", "qwen2.5-7b/qkv_proj"): (4608, 3584),
    ("linear", "qwen2.5-7b/lm_head"): (152064, 3584),
    ("linear", "deepseek-v3/down_proj"): (7168, 18432),
    ("rms_norm", "qwen3-8b/qk_norm"): (None, 128),
    ("softmax", "llama-3.1-8b/logits"): (None, 128256),
}


@pytest.mark.parametrize("case", PUBLISHED, ids="/".join)
def test_shapes_are_those_of_the_published_configurations(case: tuple[str, str]) -> None:
    name, label = case
    found = [(shape.n, shape.k) for shape in operators()[name].shapes if shape.label == label]
    assert found == [PUBLISHED[case]]


@pytest.mark.parametrize("name", GEMMS + REDUCTIONS)
def test_shapes_have_labels_of_their_own_and_just_the_operators_dimensions(name: str) -> None:
    operator = operators()[name]
    labels = [shape.label for shape in operator.shapes]
    assert len(set(labels)) == len(labels)
    assert {label.split("/")[0] for label in labels} >= {"small"}
    for shape in operator.shapes:
        assert tuple(dim for dim in ("b", "n", "k") if getattr(shape, dim) is not None) == operator.dims
        assert shape.token == "x".join(str(getattr(shape, dim)) for dim in operator.dims)
