"""Operators over eight bits: references, honest kernels and wrong ones, and what depends on its batch by definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from kernels_bench import check, integers
from kernels_bench.arms import Unsupported
from kernels_bench.arms.pytorch.calls import fp8 as torch_fp8
from kernels_bench.arms.samebits import FP8
from kernels_bench.arms.samebits.cpu import fp8 as cpu_fp8
from kernels_bench.operators import Operator, RowTensors, Tensors, operators
from kernels_bench.operators.defined import DefinedOperator
from kernels_bench.operators.layers.fp8 import GROUP, dequantised
from kernels_bench.order.batch_sweep import Task
from kernels_bench.order.case_order import order_of
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.verification.subject.kernel_under_test import bind
from support.processes import completed

CPU = torch.device("cpu")
ROWS = 24
NAMES = tuple(name for name, operator in operators().items() if operator.family == "fp8")
OURS = {name: getattr(cpu_fp8, function) for name, function in FP8.items()}
WHY = "the scale is the maximum over the batch"


def small(name: str, kind: str = "unaligned") -> tuple[Operator, Shape]:
    (shape,) = (one for one in operators()[name].shapes if one.label == f"small/{kind}")
    return operators()[name].for_shape(shape), shape


def data(name: str, text: str = "bf16", kind: str = "unaligned") -> tuple[Operator, Shape, RowTensors, Tensors]:
    operator, shape = small(name, kind)
    dtype = Precision.parse(text).torch_input
    tables = operator.rows(shape, ROWS, dtype, 0, CPU)
    return operator, shape, tuple(t[:ROWS] for t in tables), operator.weights(shape, dtype, 0, CPU)


def worst(name: str, kernel: Callable[..., Any], text: str = "bf16", kind: str = "unaligned") -> float:
    """Of an honest kernel at most 1."""
    operator, shape, rows, weights = data(name, text, kind)
    precision = Precision.parse(text)
    bound = bind(Case(arm="x", operator=name, shape=shape, precision=precision), {name: kernel})
    results = operator.split_result(bound(*operator.arguments(rows, weights)))
    assert tuple(tuple(one.shape) for one in results) == operator.result_shapes(shape, ROWS)
    assert tuple(one.dtype for one in results) == operator.result_dtypes(shape, precision)
    exact, allowed = operator.reference_and_tolerance(rows, weights, precision.torch_output)
    shares = [
        ((g.double() - e).abs() / a).nan_to_num(nan=torch.inf) for g, e, a in zip(results, exact, allowed, strict=True)
    ]
    return max(float(share.max()) for share in shares)


@pytest.mark.parametrize("kind", ["aligned", "unaligned"])
@pytest.mark.parametrize("kernels", [torch_fp8.KERNELS, OURS], ids=["torch", "samebits"])
@pytest.mark.parametrize("name", NAMES)
def test_honest_kernels_are_right(name: str, kernels: dict[str, Callable[..., Any]], kind: str) -> None:
    for text in operators()[name].precisions:
        try:
            share = worst(name, kernels[name], text, kind)
        except Unsupported as reason:
            share = 0.0 if kernels is torch_fp8.KERNELS else torch.inf  # of ours nothing is missing
            print(reason)
        assert share <= 1


def test_quantisers_agree_with_numpy() -> None:
    for name in ("fp8_quant_token", "fp8_quant_group", "fp8_quant_tensor"):
        operator, _, rows, weights = data(name)
        x = rows[0].double().numpy()
        whole = (1, 1, -1) if name == "fp8_quant_tensor" else (ROWS, 1, -1)
        groups = x.reshape((ROWS, -1, GROUP) if name == "fp8_quant_group" else whole)
        scale = np.abs(groups).max(-1, keepdims=True) / 448
        numbers, scales = operator.reference(rows, weights)
        np.testing.assert_allclose(numbers.numpy(), (groups / scale).reshape(ROWS, -1), rtol=1e-12)
        copies = ROWS if name == "fp8_quant_tensor" else 1
        np.testing.assert_allclose(scales.numpy().ravel(), scale.repeat(copies), rtol=1e-12)


@pytest.mark.parametrize("name", ["scaled_mm_token", "scaled_mm_tensor", "scaled_mm_block"])
def test_products_agree_with_numpy_from_what_kernels_are_given(name: str) -> None:
    operator, _, rows, weights = data(name)
    a, b, scale_a, scale_b = (one.double().numpy() for one in operator.arguments(rows, weights))
    if name == "scaled_mm_block":
        wide = np.repeat(scale_b, GROUP, 0)[: len(b)].repeat(GROUP, 1)
        right = (a * scale_a.repeat(GROUP, 1)) @ (b * wide).T
    else:
        right = (a * scale_a) @ (b * scale_b)
    (exact,) = operator.reference(rows, weights)
    np.testing.assert_allclose(exact.numpy(), right, rtol=1e-9, atol=1e-12)


def one_step_less(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rounded towards zero."""
    numbers, scale = torch_fp8.fp8_quant_token(x)
    too_large = (numbers.double() * scale.double()).abs() > x.double().abs()
    return (numbers.view(torch.uint8) - too_large.to(torch.uint8)).view(numbers.dtype), scale


def of_240(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """With the other e4m3's largest number, as on some GPUs."""
    numbers, scale = torch_fp8.fp8_quant_token(x)
    return (numbers.float() * (240 / 448)).to(numbers.dtype), scale * (448 / 240)


def next_group(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    numbers, scale = torch_fp8.fp8_quant_group(x)
    return numbers, scale.roll(1, 1)


def without_last_block(*arguments: torch.Tensor, out_dtype: torch.dtype) -> torch.Tensor:
    a, *rest = arguments
    a = a.clone()
    a.view(torch.uint8)[:, -8:] = 0
    return torch_fp8.scaled_mm_block(a, *rest, out_dtype=out_dtype)


def scales_turned(
    a: torch.Tensor, b: torch.Tensor, scale_a: torch.Tensor, scale_b: torch.Tensor, *, out_dtype: torch.dtype
) -> torch.Tensor:
    return cpu_fp8.scaled_mm(a, b, scale_a, scale_b.flip(1), out_dtype=out_dtype)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("fp8_quant_token", one_step_less),
        ("fp8_quant_token", of_240),
        ("fp8_quant_group", next_group),
        ("fp8_quant_static", lambda x, scale: torch_fp8.fp8_quant_static(x, scale * 1.1)),
        ("rms_norm_quant", lambda x, weight, eps: torch_fp8.fp8_quant_token(x * weight)),
        ("scaled_mm_block", without_last_block),
        ("scaled_mm_token", scales_turned),
        ("fp8_weight_linear", lambda x, weight, scale: torch_fp8.fp8_weight_linear(x, weight, scale.roll(1, 1))),
    ],
)
def test_wrong_kernels_are_wrong(name: str, kernel: Callable[..., Any]) -> None:
    assert worst(name, kernel) > 1


@pytest.mark.parametrize("name", ["scaled_mm_token", "scaled_mm_block", "scaled_mm_tensor"])
def test_rows_that_cancel_have_a_sum_of_zero_and_others_do_not(name: str) -> None:
    operator, _, rows, weights = data(name, kind="aligned")
    (exact,) = operator.reference(rows, weights)
    _, allowed = operator.reference_and_tolerance(rows, weights, torch.bfloat16)
    assert bool((exact[::4].abs() < 1e-6 * allowed[0][::4]).all())
    assert bool((exact[1::4].abs() > allowed[0][1::4]).double().mean() > 0.3)


def test_that_the_order_of_products_is_not_read_is_said_with_the_reason() -> None:
    operator, shape = small("scaled_mm_token")
    case = Case(arm="samebits", operator=operator.name, shape=shape, precision=Precision.parse("bf16"))
    order, _ = order_of(case, operator, OURS[operator.name], Task((1,), 0, 1.0, ()), CPU)
    assert (order.status, order.reason) == ("unsupported", operator.unread)
    # True of the numbers: the largest plus the smallest is not rounded in fp32.
    numbers = torch.tensor([448.0, 2.0**-9]).to(torch.float8_e4m3fn).float()
    assert float(numbers.sum()) == float(numbers.double().sum())


def test_a_blocks_scale_is_its_own_at_the_ends_that_no_block_fills() -> None:
    numbers, scale = torch.ones(130, 200, dtype=torch.float64), torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double()
    found = dequantised(numbers, scale)
    assert [float(found[place]) for place in ((127, 127), (127, 128), (128, 127), (129, 199))] == [1, 2, 3, 4]


@pytest.mark.parametrize("name", NAMES)
def test_our_kernels_keep_their_bits_or_change_them_as_defined(name: str) -> None:
    report = check(OURS[name], name, dtypes="bf16", shapes="small/unaligned", device="cpu", budget_s=0.1, claims=True)
    assert report.held, report.summary()
    verdict = "defined" if name == "fp8_quant_tensor" else "sampled"
    assert {one.verdict for one in report.verifications} == {verdict}


def checked(kernel: Callable[..., Any], **options: Any) -> Any:
    return check(kernel, "fp8_quant_tensor", dtypes="fp32", shapes="small/unaligned", device="cpu", **options)


def test_what_depends_on_its_batch_by_definition_is_told_and_is_no_failure() -> None:
    report = checked(torch_fp8.fp8_quant_tensor, budget_s=0.1, claims=True)
    (found,) = report.verifications
    assert report.held
    assert not report.counterexamples
    assert report.summary().splitlines()[:2] == [
        "fp8_quant_tensor (fp8_quant_tensor) changed bits with the batch as its definition says, 1 case",
        f"fp8_quant_tensor depends on the batch by definition: {WHY}",
    ]
    statuses = {one.relation: one.status for one in found.relations}
    assert {name for name, status in statuses.items() if status == "defined"} >= {"batch_size", "neighbour_content"}
    # Of the same rows bits must be the same: these relations say something even here.
    assert {statuses[name] for name in ("repeat", "history", "unused_memory", "concurrency")} == {"held"}
    assert found.accuracy is not None
    assert found.accuracy.worst <= 1


def by_place(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows from 16 on are divided in another way."""
    numbers, scale = torch_fp8.fp8_quant_tensor(x)
    other = (x.float() * (1 / scale)).clamp(-448, 448)
    other = (other + other.abs() * 2.0**-6).clamp(-448, 448).to(numbers.dtype)
    return torch.cat([numbers[:16], other[16:]]), scale


def of_the_last_call() -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    kept: list[torch.Tensor] = []

    def kernel(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scale = kept.pop() if kept and len(x) < 32 else torch_fp8.fp8_quant_tensor(x)[1]
        kept.append(torch_fp8.fp8_quant_tensor(x)[1])
        return torch_fp8.fp8_quant_static(x, scale), scale

    return kernel


def test_that_a_result_depends_on_its_batch_excuses_nothing_else() -> None:
    moved = checked(by_place, budget_s=0.5, relations="position")
    assert not moved.held
    assert "position" in {found.relation for found in moved.counterexamples}
    stale = checked(of_the_last_call(), budget_s=0.5, claims=True, relations=("repeat", "history"))
    assert not stale.held
    assert {found.relation for found in stale.counterexamples} & {"history", "repeat"}
    larger: Any = lambda x: (torch_fp8.fp8_quant_tensor(x)[0], torch_fp8.fp8_quant_tensor(x)[1] * 1.01)  # noqa: E731
    wrong = checked(larger, budget_s=0.5, relations="repeat")
    assert {one.verdict for one in wrong.verifications} == {"wrong"}


def test_lists_and_runs_say_it_in_words(tmp_path: Any) -> None:
    listed = completed("kernels_bench", "--list").stdout
    assert WHY in " ".join(listed.split())
    run = ["--op", "fp8_quant_tensor", "--arm", "samebits", "--verify-only", "--quick", "--out", str(tmp_path / "run")]
    done = completed("kernels_bench", *run)
    assert done.returncode == 0, done.stdout + done.stderr
    told = " ".join(done.stdout.split())
    assert f"fp8_quant_tensor depends on the batch by definition: {WHY}" in told
    assert "by definition 1/1" in told


@pytest.mark.parametrize("tile", [4, 96])
def test_whole_batches_of_every_size_are_right_or_not(tile: int) -> None:
    """The universe's is: no row is left over there, or none whose numbers are the largest."""

    def without_a_short_tail(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        left = len(x) % tile
        _, scale = torch_fp8.fp8_quant_tensor(x[: len(x) - left] if len(x) - left > 0 else x)
        return torch_fp8.fp8_quant_static(x, scale), scale

    found = checked(without_a_short_tail, budget_s=0.1, relations="repeat")
    assert {one.verdict for one in found.verifications} == {"wrong"}
    assert checked(torch_fp8.fp8_quant_tensor, budget_s=0.1, relations="repeat").held


def test_what_a_few_rows_leave_ill_conditioned_is_not_wrong() -> None:
    """Rows over the spread of their batch: of two rows it is next to nothing in some columns, and of one nothing."""

    def spread(x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(0)
        return (x - mean) / (x - mean).square().mean(0).sqrt()

    operator = DefinedOperator.define(
        "over_its_spread", rows={"x": ("d",)}, shapes={"small": {"d": 300}}, reference=spread, dtypes=("fp32", "bf16"),
        depends_on_batch="the spread is the batch's",
    )  # fmt: skip
    honest: Any = lambda x: spread(x.float()).to(x.dtype)  # noqa: E731
    stale: Any = lambda x: (spread(x.float()) * (1 + (len(x) == 65) / 8)).to(x.dtype)  # noqa: E731
    assert check(honest, operator, budget_s=0.1, device="cpu").held
    found = check(stale, operator, budget_s=0.1, relations="repeat", device="cpu")
    assert {one.verdict for one in found.verifications} == {"wrong"}


def test_an_order_that_counts_by_definition_is_no_fault_and_any_other_is() -> None:
    """An expert has room for some of a batch's rows, which the first ones use up; a maximum has no order."""

    def roomy(x: torch.Tensor, expert: torch.Tensor) -> torch.Tensor:
        before = torch.nn.functional.one_hot(expert, 4).cumsum(0).gather(1, expert[:, None])[:, 0]
        return x * (before <= len(x) // 4 + 2)[:, None]

    def over_the_largest(x: torch.Tensor) -> torch.Tensor:
        return x / x.abs().amax()

    rows: Any = {"x": ("d",), "expert": integers(high=4)}
    more: Any = {"shapes": {"small": {"d": 24}}, "dtypes": ("fp32",)}
    room = DefinedOperator.define("room", rows=rows, reference=roomy, depends_on_batch="experts have room", **more)
    largest = DefinedOperator.define(
        "over_the_largest", rows={"x": ("d",)}, reference=over_the_largest, depends_on_batch="of the batch", **more
    )

    def last_row_first(x: torch.Tensor) -> torch.Tensor:
        found = over_the_largest(x)
        return torch.cat([found[:-1], found[-1:].nextafter(found.new_tensor(9.0))]) if len(x) > 16 else found

    assert check(roomy, room, budget_s=0.1, device="cpu").held
    assert check(over_the_largest, largest, budget_s=0.1, device="cpu").held
    found = check(last_row_first, largest, budget_s=0.1, device="cpu")
    assert {one.verdict for one in found.verifications} == {"variant"}
    assert "position" in found.summary()
