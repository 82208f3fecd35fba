"""check: one kernel at hand, in this process."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import kernels_bench
from kernels_bench import Operator, Report, assert_batch_invariant, check, floats, integers
from kernels_bench.console.errors import UsageError
from kernels_bench.faults import faults
from kernels_bench.operators import operators
from kernels_bench.records.definition import DefinitionError
from kernels_bench.testing.naming import name_of, plugin_of

CPU: dict[str, Any] = {"device": "cpu", "dtypes": "fp32", "budget_s": 0.1}


def norm(x: torch.Tensor, weight: torch.Tensor, eps: float, turned: bool = False) -> torch.Tensor:
    """Adds one after the other, or the other way around; alike in every batch."""
    squares = x.float().square().unbind(1)
    total = torch.zeros(len(x), dtype=torch.float32)
    for square in squares[::-1] if turned else squares:
        total = total + square
    # 1 / sqrt, not rsqrt, of which no standard says how it rounds in a vector.
    return (x.float() / (total / x.shape[1] + eps).sqrt()[:, None] * weight.float()).to(x.dtype)


def variant(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return norm(x, weight, eps, turned=len(x) < 4)


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        return norm(x, weight, eps) * self.gain

    def bound(self, *given: Any) -> torch.Tensor:
        return variant(*given)


@pytest.mark.parametrize("kernel", [norm, Model(), Model().forward, partial(norm, turned=True)])
def test_a_kernel_that_keeps_its_bits_holds_whatever_it_is(kernel: Callable[..., Any]) -> None:
    report = check(kernel, "rms_norm", shapes=24, **CPU)
    assert report.held, report.summary()
    assert report.judged
    assert report.counterexamples == ()
    assert report.batches > 300
    assert report.summary().startswith(f"{name_of(kernel)} (rms_norm) kept its bits in ")
    (verification,) = report.verifications
    assert verification.accuracy is not None
    assert verification.accuracy.worst < 1


def test_parameters_are_left_alone() -> None:
    model = Model()
    check(model, "rms_norm", shapes=24, relations="repeat", **CPU)
    assert model.gain.requires_grad
    assert model.gain.item() == 1


def test_one_that_does_not_is_told_with_a_counterexample() -> None:
    report = check(variant, "rms_norm", shapes=[24, (40,)], **CPU)
    assert not report.held
    assert {one.verdict for one in report.verifications} == {"variant"}
    assert {one.case.shape.k for one in report.verifications} == {24, 40}
    first = report.counterexamples[0]
    assert (first.relation, first.reference.spec) == ("batch_size", "first:256")
    assert first.company.size < 4
    text = report.failure()
    assert text.startswith("variant (rms_norm) changed bits with the batch\n24 fp32: batch_size: row ")
    assert text.endswith("and in 1 more of 2 cases: 40 fp32")
    assert Report.model_validate_json(report.model_dump_json()) == report
    page = report._repr_html_()
    assert page.count("<tr>") == 3
    assert "batch_size: row" in page
    assert "<td>variant</td>" in page


def test_an_assertion_is_the_counterexample() -> None:
    with pytest.raises(AssertionError, match=r"(?s)bound \(rms_norm\) changed bits.*batch first:\d against first:256"):
        assert_batch_invariant(Model().bound, "rms_norm", shapes=24, **CPU)
    assert assert_batch_invariant(norm, "rms_norm", shapes=24, **CPU).held


def test_a_wrong_result_is_told() -> None:
    report = check(lambda *given: norm(*given) * 1.01, "rms_norm", shapes=24, **CPU)
    assert not report.held
    assert report.verifications[0].verdict == "wrong"
    assert "gave a wrong result" in report.summary()
    assert "where float64 gives" in report.failure()


def test_a_result_of_another_form_is_told() -> None:
    report = check(lambda x, weight, eps: x[:1], "rms_norm", shapes=24, **CPU)
    assert "returns shape (1, 24) instead of (256, 24) for 256 rows" in report.failure()


def top1(x: torch.Tensor) -> torch.Tensor:
    return x.argmax(1).int()


TOP1: dict[str, Any] = CPU | {
    "operator": Operator.define(
        "top1", rows={"x": ("d",)}, shapes={"a": {"d": 64}}, reference=lambda x: x.argmax(1)
    ),
    "relations": ("batch_size", "special_values"),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_whole_numbers_may_be_of_any_width(dtype: torch.dtype) -> None:
    report = check(lambda x: top1(x).to(dtype), **TOP1)
    assert report.held, report.summary()
    (verification,) = report.verifications
    assert verification.accuracy is not None
    assert verification.accuracy.worst == 0


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (lambda x: x.argmin(1).int(), "where float64 gives"),
        (lambda x: top1(x) if len(x) > 7 else x.argmax(1), "returns torch.int64 at M=1, and torch.int32 at M=256"),
        (lambda x: top1(x).float(), "returns torch.float32 instead of torch.int64"),
        (lambda x: top1(x).bool(), "returns torch.bool instead of torch.int64"),
    ],
)
def test_whole_numbers_must_be_right_and_of_one_width(kernel: Callable[..., Any], said: str) -> None:
    report = check(kernel, **TOP1)
    assert report.verifications[0].verdict == "wrong"
    assert said in report.failure()


def test_a_dtype_that_it_does_not_have_is_told() -> None:
    report = check(norm, "rms_norm", shapes=24, device="cpu", dtypes="bf16:fp32")
    assert report.verifications[0].verdict == "unsupported"
    assert "could not be verified" in report.summary()
    assert "its rms_norm cannot give fp32 of bf16" in report.summary()


def at_most(most: int, kernel: Callable[..., Any]) -> Callable[..., Any]:
    def few(x: torch.Tensor, *others: Any) -> Any:
        if len(x) > most:
            raise NotImplementedError(f"at most {most} rows")
        return kernel(x, *others)

    return few


@pytest.mark.parametrize("most", [2, 17, 96])
def test_a_kernel_for_few_rows_is_examined_among_them(most: int) -> None:
    report = check(at_most(most, norm), "rms_norm", shapes=24, **CPU)
    assert report.held, report.summary()
    (one,) = report.verifications
    assert (one.universe, one.refused) == (most, f"at most {most} rows")
    assert f"\namong at most {most} rows: it takes no more (at most {most} rows)\n" in report.summary()
    assert {result.relation for result in one.relations if result.status == "held"} >= {"batch_size", "history"}


def test_a_fault_among_few_rows_is_told() -> None:
    report = check(at_most(96, variant), "rms_norm", shapes=24, relations="batch_size", **CPU)
    assert report.verifications[0].verdict == "variant"
    assert report.counterexamples[0].reference.spec == "first:96"
    assert "among at most 96 rows: it takes no more" in report.summary()


def test_a_kernel_for_one_row_has_no_batches() -> None:
    report = check(at_most(1, norm), "rms_norm", shapes=24, **CPU)
    assert report.verifications[0].verdict == "unsupported"
    assert "takes one row alone, which has no batch to depend on: at most 1 rows" in report.summary()


def test_a_kernel_that_takes_no_rows_is_no_kernel_for_few() -> None:
    with pytest.raises(NotImplementedError, match="at most 0 rows"):
        check(at_most(0, norm), "rms_norm", shapes=24, **CPU)


def test_what_a_kernel_raises_comes_out() -> None:
    with pytest.raises(ZeroDivisionError):
        check(lambda x, weight, eps: 1 // 0, "rms_norm", shapes=24, **CPU)


def dislikes_views(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return norm(x, weight, eps, turned=not x.is_contiguous())


def test_a_layout_is_told_and_breaks_nothing_unless_it_is_claimed() -> None:
    report = check(dislikes_views, "rms_norm", shapes=24, **CPU)
    assert report.held
    assert "no verdict counts it: it was not claimed" in report.summary()
    for options in ({"claims": True}, {"claims": ("layout",)}, {"relations": "layout"}):
        assert not check(dislikes_views, "rms_norm", shapes=24, **CPU, **options).held


SET: dict[str, Callable[[], bool]] = {
    "inference": torch.is_inference_mode_enabled,
    "gradients": torch.is_grad_enabled,
    "default_dtype": lambda: torch.get_default_dtype() is torch.bfloat16,
}


@pytest.mark.parametrize("form", SET)
def test_what_is_set_around_a_kernel_is_told_and_breaks_nothing_unless_it_is_claimed(form: str) -> None:
    def kernel(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        return norm(x, weight, eps, turned=SET[form]())

    report = check(kernel, "rms_norm", shapes=24, **CPU)
    assert report.held, report.summary()
    assert "no verdict counts it: it was not claimed" in report.summary()
    found = check(kernel, "rms_norm", shapes=24, relations="surroundings", **CPU)
    assert not found.held
    (result,) = found.verifications[0].relations
    assert result.broken == ("first:5", "first:65")
    assert result.counterexample is not None
    assert result.counterexample.company.launch == form


def test_a_result_of_another_dtype_under_another_default_dtype_is_no_wrong_result() -> None:
    def kernel(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        return norm(x, weight, eps).to(torch.get_default_dtype())

    report = check(kernel, "rms_norm", shapes=24, **CPU)
    assert report.held, report.summary()
    (found,) = (one for one in report.verifications[0].relations if one.relation == "surroundings")
    assert (found.status, found.binding) == ("broken", False)
    assert "returns torch.bfloat16 instead of torch.float32 (default_dtype, at M=5)" in found.reason


def test_what_a_kernel_refuses_to_have_around_it_is_left_out() -> None:
    def kernel(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        if torch.is_inference_mode_enabled():
            raise RuntimeError("no tensors of inference mode, please")
        return norm(x, weight, eps)

    both = [check(one, "rms_norm", shapes=24, relations="surroundings", **CPU) for one in (kernel, norm)]
    assert all(report.held for report in both)
    assert both[1].batches - both[0].batches == len(("first:5", "first:65"))


def in_vectors(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Refuses rows whose numbers are not side by side; larger batches at an odd address are added otherwise."""
    if x.stride(1) != 1 or 0 < x.stride(0) < x.shape[1]:
        raise ValueError("expects numbers side by side")
    return norm(x, weight, eps, turned=len(x) == 256 and x.data_ptr() % 64 != 0)


def test_what_a_kernel_refuses_of_rarer_strides_is_left_out_and_the_rest_is_tried() -> None:
    options: dict[str, Any] = {"relations": "layout", "claims": True, "shapes": 24, **CPU, "budget_s": 0.0}
    found, usual = (check(kernel, "rms_norm", **options).verifications[0].relations[0] for kernel in (in_vectors, norm))
    assert (found.status, usual.status) == ("broken", "held")
    assert found.broken == ("first:256",)
    left_out = {"columns", "transposed"}
    sizes = (5, 16)
    assert usual.companies - found.companies == len(sizes) * len(left_out)


@pytest.mark.parametrize("name", ["fp8_e4m3", "fp8_e5m2"])
def test_rows_of_eight_bits_are_not_said_to_be_written_beside(name: str) -> None:
    widened = Operator.define("widened", rows={"x": floats("d", dtype=name)}, shapes={"any": {"d": 6}}, results=("d",))
    report = check(lambda x: x.to(torch.bfloat16), widened, dtypes="bf16", device="cpu", budget_s=0.2)
    assert report.held, report.summary()


def test_a_result_that_torch_keeps_negated_is_compared_as_its_numbers() -> None:
    turned = Operator.define("turned", rows={"x": ("d",)}, shapes={"any": {"d": 6}}, results=("d",))
    report = check(lambda x: torch.complex(x, x).conj().imag, turned, dtypes="fp32", device="cpu", budget_s=0.2)
    assert report.held, report.summary()


def test_a_sparse_result_is_said_to_be_one() -> None:
    report = check(lambda x, w, eps: x.to_sparse(), "rms_norm", shapes=24, **CPU)
    assert "layout torch.sparse_coo instead of a dense one" in report.summary()


def in_lanes_at_100(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """A tile of one size alone reads rows otherwise that do not begin at a multiple of 64 bytes."""
    return norm(x, weight, eps, turned=len(x) == 100 and x.data_ptr() % 64 != 0)


def test_costlier_relations_look_at_what_is_asked_for_too() -> None:
    options: dict[str, Any] = {"relations": "layout", "claims": True, "shapes": 24, **CPU, "budget_s": 0.0}
    assert check(in_lanes_at_100, "rms_norm", **options).held
    assert not check(in_lanes_at_100, "rms_norm", batch=100, **options).held


def test_relations_sizes_and_seeds_are_the_callers() -> None:
    report = check(norm, "rms_norm", shapes=24, relations=("repeat", "batch_size"), batch=300, seed=3, **CPU)
    (verification,) = report.verifications
    assert [result.relation for result in verification.relations] == ["repeat", "batch_size"]
    assert verification.universe == 300
    short = check(norm, "rms_norm", quick=True, device="cpu", relations="repeat", budget_s=0.1)
    assert short.verifications[0].case.shape.invented


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"operator": "rms_nrom"}, "operator 'rms_nrom': unknown; did you mean rms_norm"),
        ({"shapes": "qwen3-8c"}, "--shapes qwen3-8c: unknown"),
        ({"shapes": {"n": 3}}, r"shapes: {'n': 3} has other sizes than rms_norm: k"),
        ({"shapes": (1, 2, 3)}, "fits none of the chosen operators"),
        ({"dtypes": "bf61"}, "--dtype bf61: unknown"),
        ({"relations": "batchsize"}, "--relation batchsize: unknown"),
        ({"claims": ("batchsize",)}, "claims names 'batchsize', which is no relation"),
        ({"batch": 0}, "--batch 0: a batch has between"),
        ({"device": "tpu"}, "device 'tpu': expected cpu, cuda or npu"),
    ],
)
def test_a_mistake_is_one_line(options: dict[str, Any], said: str) -> None:
    usual = {"operator": "rms_norm", **CPU}
    with pytest.raises(UsageError, match=said) as caught:
        check(norm, **{**usual, **options})
    assert "\n" not in str(caught.value)


# --- operators of one's own ------------------------------------------------------------------------------


def test_an_operator_without_a_reference_is_not_judged() -> None:
    operator = Operator.define(
        "gathered",
        rows={"ids": integers("k", high="experts"), "scale": floats(1, low=0.5, high=2)},
        shared={"table": ("experts", "d")},
        shapes={"s": {"k": 2, "experts": 7, "d": 5}},
        results=("k", "d"),
    )
    report = check(lambda ids, scale, table: table[ids] * scale[:, :, None], operator, **CPU)
    assert report.held, report.summary()
    assert not report.judged
    assert "whether results are right was not judged: gathered has no reference" in report.summary()
    assert check(lambda ids, scale, table: table[ids] * 0, operator, **CPU).held


OWN = [name for name in faults() if not isinstance(faults()[name].operator, str)]


FEW = ("gate_rounded_from_16_rows", "scan_of_one_length")
"""One of rows and one of sequences: all are flagged in test_score.py, and here the same is found from Python."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FEW else pytest.mark.long) for name in OWN])
def test_planted_faults_of_own_operators_are_found_here_too(name: str) -> None:
    fault = faults()[name]
    operator = fault.computed
    options = {**CPU, "dtypes": fault.precision, "claims": True}  # `layout` says nothing of what is not claimed
    assert not check(fault.make(), operator, **options).held
    assert check(fault.control(), operator, **options).held


def test_mistakes_of_own_operators_are_told() -> None:
    wrong = Operator.define("mine", rows={"x": ("d",)}, shapes={"s": {"d": 3}}, reference=lambda x: x.sum())
    with pytest.raises(DefinitionError, match="its first dimension must count them"):
        check(lambda x: x, wrong, **CPU)
    taken = Operator.define("mm", rows={"x": ("d",)}, shapes={"s": {"d": 3}}, results=("d",))
    with pytest.raises(UsageError, match="there is an operator 'mm' already"):
        check(lambda x: x, taken, **CPU)


# --- the kernel's name -----------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of a user's, in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "written_kernels.py").write_text(
        textwrap.dedent("""
            import functools
            from kernels_bench import Operator
            own = Operator.define("own_copy", rows={"x": ("d",)}, shapes={"s": {"d": 3}}, results=("d",))
            def kernel(x, *others):
                return x.clone()
            def made():
                return lambda x: x.clone()
            partial = functools.partial(kernel)
        """)
    )
    import importlib

    yield importlib.import_module("written_kernels")
    del sys.modules["written_kernels"]


def test_a_function_of_a_file_has_a_command(written: ModuleType) -> None:
    assert plugin_of(written.kernel, operators()["softmax"]) == "written_kernels.py:softmax=kernel"
    assert plugin_of(written.kernel, written.own) == "written_kernels.py:own_copy=kernel"
    elsewhere = Operator.define("other", rows={"x": ("d",)}, shapes={"s": {"d": 3}}, results=("d",))
    for kernel, operator in (
        (written.made(), operators()["softmax"]),
        (written.partial, operators()["softmax"]),
        (written.kernel, elsewhere),
        (torch.neg, operators()["softmax"]),
        (Model().bound, operators()["softmax"]),
    ):
        assert plugin_of(kernel, operator) is None
    assert (name_of(written.made()), name_of(written.partial), name_of(Model())) == ("lambda", "partial", "Model")


def test_public_names_are_there_and_few() -> None:
    assert set(kernels_bench.__all__) <= set(dir(kernels_bench))
    assert len(kernels_bench.__all__) <= 8
    for name in kernels_bench.__all__:
        assert getattr(kernels_bench, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'chekc'"):
        kernels_bench.chekc  # noqa: B018
