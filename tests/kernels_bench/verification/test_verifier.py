"""Planted faults: each is caught by the relation it breaks, and the same kernel without it is not."""

import math
import shlex
import time
from collections.abc import Callable, Collection
from functools import cache
from typing import Any

import pytest
import torch

from kernels_bench.arms import Kernel, Unsupported
from kernels_bench.faults import faults
from kernels_bench.operators import operators
from kernels_bench.records.cases import Case, Claims, Precision, Shape
from kernels_bench.records.results import Counterexample, RelationResult, Verification
from kernels_bench.relations import Comparison, Setting, make_batch, relations
from kernels_bench.relations.base import sweep
from kernels_bench.report.summary.findings_text import extent
from kernels_bench.verification.relation_results import discount_if_not_repeatable
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest, bind
from kernels_bench.verification.subject.launched import KernelFault, MalformedResult
from kernels_bench.verification.verifier import Verifier
from support.products import SHAPES, UNIVERSE, product, subject

Tensor = torch.Tensor


def called(kernel: Kernel) -> str:
    return kernel.__name__


def row_sum(x: Tensor) -> Tensor:
    """Each row's sum in fp32, one column after the other."""
    total = torch.zeros(len(x))
    for column in x.float().unbind(1):
        total = total + column
    return total


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    mean_square = row_sum(x.float() ** 2) / x.shape[1]
    return (x.float() / (mean_square + eps).sqrt()[:, None] * weight.float()).to(x.dtype)


ROWS = ("repeat", "batch_size", "position", "neighbour_content", "graph")
"""Which batch a row is in; the other relations take longer, and are tried where they are asked for."""


def verify(
    kernel: Kernel,
    operator: str = "mm",
    precision: str = "fp32",
    names: Collection[str] = ROWS,
    claims: Claims = True,
    **options: Any,
) -> Verification:
    under_test = subject(kernel, operator, precision, **options)
    universe = under_test.universe
    setting = Setting(universe, sweep(universe), most=2 * universe)
    chosen = [relation for name, relation in relations().items() if name in names]
    return Verifier(under_test, seed=0, claims=claims).verify(chosen, setting, digest_sizes=(1, 17))


def statuses(found: Verification) -> dict[str, str]:
    return {result.relation: result.status for result in found.relations if result.relation != "graph"}


def broken(found: Verification) -> set[str]:
    return {name for name, status in statuses(found).items() if status == "broken"}


HELD = dict.fromkeys(("repeat", "batch_size", "position", "neighbour_content"), "held")
EVERY = [name for name, relation in relations().items() if relation.applies_to("rows")]


def assert_clean(found: Verification, names: Collection[str] = EVERY) -> None:
    assert statuses(found) == dict.fromkeys((name for name in names if name != "graph"), "held")
    assert (found.wrong, found.verdict, found.counterexample) == ("", "sampled", None)
    assert found.accuracy is not None
    assert found.accuracy.worst <= 1
    assert found.accuracy.rows == found.universe * (2 if found.case.operator.startswith("fused") else 1)


# Controls.


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("splits", [1, 4])
def test_a_fixed_order_is_clean(precision: str, splits: int) -> None:
    found = verify(lambda a, b: product(a, b, splits), precision=precision, names=EVERY)
    assert_clean(found)
    assert [result.status for result in found.relations if result.relation == "graph"] == ["unsupported"]
    for result in found.relations:
        if result.status == "held":
            assert result.companies > 0
            assert result.rows > result.companies


def test_row_kernels_of_a_fixed_order_are_clean() -> None:
    assert_clean(verify(norm, "rms_norm", names=EVERY))
    mean = verify(lambda x, *, out_dtype: (row_sum(x) / x.shape[1]).to(out_dtype), "mean", "bf16:fp32", names=EVERY)
    assert_clean(mean)


def norm_in_place(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    residual += x
    x.copy_(norm(residual, weight, eps))
    return x, residual


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_writing_into_what_the_operator_overwrites_is_clean(precision: str) -> None:
    assert_clean(verify(norm_in_place, "fused_add_rms_norm", precision, EVERY))


# Batch variance.


def split_by_m(a: Tensor, b: Tensor) -> Tensor:
    return product(a, b, 4 if len(a) < 32 else 1)


def last_row_apart(a: Tensor, b: Tensor) -> Tensor:
    out = product(a, b)
    out[-1:] = product(a[-1:], b, 4)
    return out


def odd_rows_apart(a: Tensor, b: Tensor) -> Tensor:
    out = product(a, b)
    out[1::2] = product(a[1::2], b, 2)
    return out


def scaled_by_the_batch(a: Tensor, b: Tensor) -> Tensor:
    scale = a.abs().max() / 3
    return product(a / scale, b) * scale


def leaking_nan(a: Tensor, b: Tensor) -> Tensor:
    return product(a, b) + 0 * a.sum()


def summed_with_the_previous_row(a: Tensor, b: Tensor) -> Tensor:
    both = product(a, b)
    return (both + both.roll(1, 0)) - both.roll(1, 0)


# Kernel, what it breaks, and what it keeps for certain.
VARIANT: dict[Kernel, tuple[set[str], set[str]]] = {
    split_by_m: ({"batch_size"}, {"repeat", "position", "neighbour_content"}),
    last_row_apart: ({"position", "batch_size"}, {"repeat", "neighbour_content"}),
    odd_rows_apart: ({"position"}, {"repeat", "neighbour_content"}),
    # Of position too, since a batch of one row many times has another maximum.
    scaled_by_the_batch: ({"batch_size", "neighbour_content", "position"}, {"repeat"}),
    leaking_nan: ({"neighbour_content"}, {"repeat", "batch_size", "position"}),
    summed_with_the_previous_row: ({"position", "neighbour_content", "batch_size"}, {"repeat"}),
}


@cache
def verified(kernel: Kernel, precision: str = "fp32") -> Verification:
    return verify(kernel, precision=precision)


@pytest.mark.parametrize("kernel", VARIANT, ids=called)
def test_variance_is_laid_at_the_right_relations_door(kernel: Kernel) -> None:
    found = verified(kernel)
    breaks, keeps = VARIANT[kernel]
    assert broken(found) >= breaks
    assert not broken(found) & keeps
    assert found.verdict in ("variant", "wrong")


@pytest.mark.parametrize("kernel", [split_by_m, last_row_apart, odd_rows_apart], ids=called)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_variance_shows_in_sixteen_bits_too_and_is_not_called_wrong(kernel: Kernel, precision: str) -> None:
    found = verified(kernel, precision)
    assert broken(found) >= VARIANT[kernel][0]
    assert (found.verdict, found.wrong) == ("variant", "")


def test_a_sum_of_the_largest_numbers_that_overflows_on_the_way_is_not_called_wrong() -> None:
    def by_sign(a: Tensor, b: Tensor) -> Tensor:
        """From 16 rows on the positive terms come first: of rows of the largest numbers these are infinite."""
        terms = a.float()[:, :, None] * b.float()[None]
        ordered = terms.sort(1, descending=True)[0] if len(a) >= 16 else terms
        return row_sum(ordered.transpose(1, 2).flatten(0, 1)).view(len(a), -1)

    found = verify(by_sign, names=("batch_size", "special_values"))
    assert broken(found) >= {"batch_size", "special_values"}
    assert (found.verdict, found.wrong) == ("variant", "")


def test_nan_from_a_neighbour_is_variance_and_not_wrong_whatever_the_batch() -> None:
    found = verified(leaking_nan)
    assert found.counterexample is not None
    assert found.counterexample.ulp is None
    assert found.counterexample.company.spec.split(":")[0] in ("inf", "nan", "huge")
    assert (found.verdict, found.wrong) == ("variant", "")
    assert math.isnan(found.counterexample.got)


def assert_true(shown: Counterexample, kernel: Kernel) -> None:
    """Run both companies once more and find there what the counterexample says."""
    again = subject(kernel)
    rows = []
    for ref, value, pattern in (
        (shown.reference, shown.expected, shown.expected_bits),
        (shown.company, shown.got, shown.got_bits),
    ):
        made = make_batch(ref.spec, UNIVERSE)
        assert (made.size, made.rows[ref.position], ref.launch) == (ref.size, shown.row, "eager")
        row = again.run(made)[shown.output][ref.position].flatten()
        if not math.isnan(value):  # which on a CPU has other bits at other places
            assert f"0x{int(row.view(torch.int32)[shown.index]) & 0xFFFFFFFF:08x}" == pattern
        assert float(row[shown.index]) == pytest.approx(value, rel=0, abs=0, nan_ok=True)
        rows.append(row.view(torch.int32))
    differing = (rows[0] != rows[1]).nonzero().flatten()
    assert int(differing[0]) == shown.index
    assert 1 <= shown.rows <= shown.rows_compared <= shown.company.size
    assert shown.elements >= len(differing)
    words = shlex.split(shown.command)
    assert words[:4] == ["python", "-m", "kernels_bench", "reproduce"]
    expected = {
        "--relation": shown.relation,
        "--reference": shown.reference.spec,
        "--batch": shown.company.spec,
        "--seed": "0",
        "--universe": str(UNIVERSE),
    }
    assert expected.items() <= dict(zip(words[4::2], words[5::2], strict=True)).items()


@pytest.mark.parametrize("kernel", VARIANT, ids=called)
def test_counterexamples_are_true(kernel: Kernel) -> None:
    found = [result for result in verified(kernel).relations if result.counterexample is not None]
    assert {result.relation for result in found} == broken(verified(kernel))
    for result in found:
        assert result.counterexample is not None
        assert_true(result.counterexample, kernel)
        assert len(result.broken) <= result.companies


@pytest.mark.parametrize("spec", ["nan:32:0", "inf:32:1", "nan:17:2", "huge:9:3"])
def test_counterexamples_among_strangers_are_true(spec: str) -> None:
    shown = Verifier(subject(leaking_nan), seed=0).compare(Comparison("first:32", spec), "neighbour_content")
    assert shown is not None
    assert shown.row == shown.company.position == int(spec.split(":")[2])
    assert_true(shown, leaking_nan)


@pytest.mark.parametrize("spec", ["reverse:32", "shuffle:31:5", "rotate:32:7", "first:9"])
def test_counterexamples_in_another_order_are_true(spec: str) -> None:
    shown = Verifier(subject(split_by_m), seed=0).compare(Comparison(f"first:{UNIVERSE}", spec), "position")
    assert (shown is None) == (make_batch(spec, UNIVERSE).size >= 32)
    if shown is not None:
        assert_true(shown, split_by_m)
    apart = Verifier(subject(last_row_apart), seed=0).compare(Comparison(f"first:{UNIVERSE}", spec), "position")
    assert apart is not None
    assert_true(apart, last_row_apart)


def test_a_counterexample_is_found_again_alone() -> None:
    shown = verified(split_by_m).counterexample
    assert shown is not None
    comparison = Comparison(shown.reference.spec, shown.company.spec)
    assert Verifier(subject(split_by_m), seed=0).compare(comparison, shown.relation) == shown
    assert Verifier(subject(product), seed=0).compare(comparison, shown.relation) is None


def test_another_result_of_an_operator_is_compared_too() -> None:
    def second_varies(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        total = x + residual
        return norm(total, weight, eps), total if len(x) < 32 else (total.double() * (1 + 2.0**-24)).float()

    found = verify(second_varies, "fused_add_rms_norm")
    assert broken(found) == {"batch_size"}
    assert found.counterexample is not None
    assert found.counterexample.output == 1


MILLION = Shape(label="test", n=4096, k=2)


def test_one_element_in_a_million_is_found_end_to_end() -> None:
    def honest(a: Tensor, b: Tensor) -> Tensor:
        return a[:, 0, None] * b[0] + a[:, 1, None] * b[1]

    def once(a: Tensor, b: Tensor) -> Tensor:
        out = honest(a, b)
        if len(a) == 257:
            out.view(torch.int32)[201, 4001] ^= 1
        return out

    small = Setting(300, (1, 257, 300))
    chosen = [relations()["repeat"], relations()["batch_size"]]
    clean, found = (
        Verifier(subject(kernel, universe=300, shape=MILLION), seed=0).verify(chosen, small, ())
        for kernel in (honest, once)
    )
    assert statuses(clean) == {"repeat": "held", "batch_size": "held"}
    assert statuses(found) == {"repeat": "held", "batch_size": "broken"}
    shown = found.counterexample
    assert shown is not None
    assert (shown.row, shown.index, shown.elements, shown.rows) == (201, 4001, 1, 1)
    assert (shown.ulp, shown.max_ulp, shown.company.spec) == (1, 1, "first:257")
    assert found.verdict == "variant"


def test_one_wrong_element_in_a_million_is_wrong() -> None:
    def once(a: Tensor, b: Tensor) -> Tensor:
        out = a[:, 0, None] * b[0] + a[:, 1, None] * b[1]
        out[::256, 4001] += 1e-3
        return out

    found = Verifier(subject(once, universe=256, shape=MILLION), seed=0).verify([], Setting(256, (256,)), ())
    assert found.verdict == "wrong"
    assert found.accuracy is not None
    assert (found.accuracy.row, found.accuracy.index) == (0, 4001)


# Kernels that are not repeatable.


def random_order(a: Tensor, b: Tensor) -> Tensor:
    return product(a, b, order=torch.randperm(a.shape[1]))


def test_a_kernel_that_is_not_repeatable_breaks_repeat_and_nothing_else_is_concluded() -> None:
    found = verify(random_order)
    assert statuses(found) == {"repeat": "broken"} | dict.fromkeys(
        ("batch_size", "position", "neighbour_content"), "inconclusive"
    )
    assert found.counterexample is not None
    assert found.counterexample.relation == "repeat"
    assert all(result.reason for result in found.relations if result.status == "inconclusive")


def test_only_broken_relations_become_inconclusive() -> None:
    def result(relation: str, status: str) -> RelationResult:
        return RelationResult.model_validate({"relation": relation, "status": status})

    mixed = [("repeat", "broken"), ("a", "held"), ("b", "broken"), ("c", "unsupported"), ("d", "failed")]
    assert [r.status for r in discount_if_not_repeatable([result(*pair) for pair in mixed])] == [
        "broken",
        "held",
        "inconclusive",
        "unsupported",
        "failed",
    ]
    repeatable = [result("repeat", "held"), result("b", "broken")]
    assert discount_if_not_repeatable(repeatable) == repeatable
    assert discount_if_not_repeatable([result("b", "broken")])[0].status == "broken"


# Results that are stale, or not wholly written.


class Stale:
    """Computes once for each M and returns that result for ever."""

    def __init__(self) -> None:
        self._kept: dict[int, Tensor] = {}

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return self._kept.setdefault(len(a), product(a, b))


class OneBuffer:
    """Writes every result into the same memory, as engines with static buffers do."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._buffer: Tensor | None = None

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        if self._buffer is None or len(self._buffer) < len(a):
            self._buffer = torch.empty(len(a), b.shape[1])
        out = self._buffer[: len(a)]
        return out.copy_(self._kernel(a, b))


def test_a_stale_result_is_caught() -> None:
    found = verify(Stale())
    assert broken(found)
    assert found.verdict == "wrong"


def test_a_kernel_may_write_all_its_results_into_one_buffer() -> None:
    """Two calls disturb each other there, which `concurrency` is to tell, and nothing else does."""
    names = [name for name in EVERY if name != "concurrency"]
    assert_clean(verify(OneBuffer(product), names=names), names)
    assert broken(verify(OneBuffer(product), names=EVERY)) == {"concurrency"}


class Left:
    """Adds otherwise in all calls after rows of some kind were met."""

    def __init__(self, met: Callable[[Tensor], bool]) -> None:
        self._met, self._other = met, False

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        found = product(a, b, 4 if self._other else 1)
        self._other |= self._met(a)
        return found


@pytest.mark.parametrize(
    "met", [lambda a: not a.is_contiguous(), lambda a: len(a) > UNIVERSE + 1], ids=["a view", "large"]
)
def test_what_the_last_relations_leave_changed_is_told(met: Callable[[Tensor], bool]) -> None:
    found = verify(Left(met), names=EVERY)
    assert broken(found) == {"history"}
    (told,) = [one.reason for one in found.relations if one.relation == "history"]
    assert told == "after large batches, rows that lay elsewhere and other surroundings it gave other bits at M=1"


class OnePlan:
    """Ends in an error where another call, of another M, came in between."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        self.rows = len(a)
        time.sleep(2e-3)
        if self.rows != len(a):
            raise RuntimeError("the plan is for another M")
        return product(a, b)


def test_a_call_that_fails_beside_another_one_alone_breaks_concurrency() -> None:
    found = verify(OnePlan(), names=["repeat", "concurrency"])
    assert broken(found) == {"concurrency"}
    (told,) = [one.reason for one in found.relations if one.relation == "concurrency"]
    assert told.startswith("fails beside another call at M=")
    assert told.endswith("and not alone: RuntimeError: the plan is for another M")
    assert found.verdict == "variant"


def test_one_buffer_does_not_hide_variance() -> None:
    assert broken(verify(OneBuffer(split_by_m))) == {"batch_size"}


def test_one_buffer_does_not_hide_that_a_kernel_is_not_repeatable() -> None:
    assert "repeat" in broken(verify(OneBuffer(random_order)))


def without_the_last_element(a: Tensor, b: Tensor) -> Tensor:
    out = torch.empty(len(a), b.shape[1], dtype=a.dtype)
    out.view(-1)[:-1] = product(a, b).view(-1)[:-1]
    return out


def without_the_last_row(a: Tensor, b: Tensor) -> Tensor:
    out = torch.empty(len(a), b.shape[1], dtype=a.dtype)
    out[:-1] = product(a, b)[:-1]
    return out


def whole_tiles_only(a: Tensor, b: Tensor) -> Tensor:
    out = torch.empty(len(a), b.shape[1], dtype=a.dtype)
    whole = max(16, len(a) // 16 * 16)
    out[:whole] = product(a, b)[:whole]
    return out


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kernel", [without_the_last_element, without_the_last_row, whole_tiles_only], ids=called)
def test_partly_written_results_are_wrong(kernel: Kernel, precision: str) -> None:
    found = verify(kernel, precision=precision)
    assert found.wrong
    assert found.verdict == "wrong"


def test_a_partly_written_small_result_is_wrong() -> None:
    def short(x: Tensor, *, out_dtype: torch.dtype) -> Tensor:
        out = torch.empty(len(x), dtype=out_dtype)
        out[:-1] = (row_sum(x)[:-1] / x.shape[1]).to(out_dtype)
        return out

    assert verify(short, "mean", "bf16:fp32", universe=40).wrong


# Kernels that write where they must not.


def writes_into(place: int) -> Kernel:
    def kernel(a: Tensor, b: Tensor) -> Tensor:
        out = product(a, b)
        (a, b)[place].view(-1)[-1:] += 1
        return out

    return kernel


@pytest.mark.parametrize(("place", "message"), [(0, "rows, which follow each other"), (1, "weights")])
def test_writing_into_the_inputs_is_a_fault(place: int, message: str) -> None:
    with pytest.raises(KernelFault, match=f"writes into its {message}"):
        verify(writes_into(place))


def test_writing_the_other_zero_into_the_inputs_is_a_fault() -> None:
    def kernel(a: Tensor, b: Tensor) -> Tensor:
        out = product(a, b)
        a[:, 0] = torch.where(a[:, 0] == 0, -a[:, 0], a[:, 0])
        return out

    with pytest.raises(KernelFault, match="argument 0"):
        subject(kernel).run(make_batch("zero:4:1", UNIVERSE))


def test_a_kernel_that_may_overwrite_its_rows_may_not_overwrite_its_weight() -> None:
    def kernel(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        result = norm_in_place(x, residual, weight, eps)
        weight[0] += 1
        return result

    with pytest.raises(KernelFault, match="writes into its weights"):
        verify(kernel, "fused_add_rms_norm")


# Results of a wrong form.

WRONG_FORMS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "nothing": (lambda _: None, "NoneType instead of a tensor"),
    "a number": (lambda _: 1.0, "float instead of a tensor"),
    "two results": (lambda out: (out, out), "2 results instead of 1"),
    "no result": (lambda _: (), "0 results instead of 1"),
    "transposed": (lambda out: out.t(), "shape"),
    "a row less": (lambda out: out[:-1], "shape"),
    "flattened": (lambda out: out.reshape(-1), "shape"),
    "wider": (lambda out: out.double(), "torch.float64 instead of torch.float32"),
    "narrower": (lambda out: out.bfloat16(), "torch.bfloat16 instead of torch.float32"),
    "elsewhere": (lambda out: out.to("meta"), "on meta instead of cpu"),
}


@pytest.mark.parametrize("form", WRONG_FORMS)
def test_results_of_a_wrong_form_are_refused_by_name(form: str) -> None:
    change, message = WRONG_FORMS[form]
    with pytest.raises(MalformedResult, match=message):
        verify(lambda a, b: change(product(a, b)))


def test_one_result_instead_of_two_is_refused() -> None:
    with pytest.raises(MalformedResult, match="1 results instead of 2"):
        verify(lambda x, residual, weight, eps: norm(x + residual, weight, eps), "fused_add_rms_norm")


@pytest.mark.parametrize("result", [None, (), 1.0])
def test_heads_of_a_wrong_form_are_refused(result: object) -> None:
    with pytest.raises(MalformedResult):
        verify(lambda a, b: result, "bmm_heads")


# Fast, invariant and wrong.


@pytest.mark.parametrize(
    "kernel",
    [lambda a, b: torch.zeros(len(a), b.shape[1]), lambda a, b: product(a[:, :-16], b[:-16])],
    ids=["zeros", "dropped tail"],
)
def test_an_invariant_kernel_that_is_wrong_is_called_wrong(kernel: Kernel) -> None:
    found = verify(kernel, names=EVERY)
    assert statuses(found).items() >= HELD.items()
    assert found.verdict == "wrong"
    assert "where float64 gives" in found.wrong
    assert found.accuracy is not None
    assert found.accuracy.worst > 1


def test_the_worst_element_is_named() -> None:
    def kernel(a: Tensor, b: Tensor) -> Tensor:
        out = product(a, b)
        out[a[:, 3] == row[3], 7] = 9
        return out

    row = subject(product).tables[0][41]
    found = verify(kernel).accuracy
    assert found is not None
    assert (found.row, found.index, found.got) == (41, 7, 9.0)
    exact = operators()["mm"].reference((row[None],), subject(product).weights)[0][0, 7]
    assert found.expected == float(exact)


# Digests, and what an arm does not offer.


def test_digests_are_equal_just_where_the_bits_are() -> None:
    first, second, other = (verified(kernel).digests for kernel in (leaking_nan, odd_rows_apart, split_by_m))
    assert first[1] == second[1]
    assert first[17] != second[17]
    assert first[1] != other[1]
    assert verify(product).digests == first


def test_kernels_that_an_arm_does_not_offer_are_unsupported() -> None:
    case = Case(arm="planted", operator="mm", shape=SHAPES["mm"], precision=Precision.parse("bf16:fp32"))
    with pytest.raises(Unsupported, match="no mm"):
        bind(case, {"linear": product})
    with pytest.raises(Unsupported, match="fp32 of bf16"):
        bind(case, {"mm": product})


def test_a_kernel_that_takes_out_dtype_is_given_it() -> None:
    seen = []

    def kernel(a: Tensor, b: Tensor, *, out_dtype: torch.dtype) -> Tensor:
        seen.append(out_dtype)
        return product(a.float(), b.float()).to(out_dtype)

    for precision in ("bf16", "bf16:fp32", "fp32"):
        subject(kernel, precision=precision).run(make_batch("first:2", UNIVERSE))
    assert list(dict.fromkeys(seen)) == [torch.bfloat16, torch.float32]
    assert len(seen) == 2 * 3  # each once more, to see whether its result lies where the first one does


def test_a_builtin_function_of_torch_is_a_kernel() -> None:
    got = subject(torch.mm).run(make_batch("first:3", UNIVERSE))
    assert got[0].shape == (3, 48)


# CUDA graphs.

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def on_gpu(kernel: Kernel) -> Verification:
    return verify(kernel, device=torch.device("cuda"))


class ReadsOnTheHost:
    """Chooses each row's order from its own contents, read on the host: invariant when launched eagerly.

    During capture nothing can be read, and the last reading is burnt into the graph.
    """

    def __init__(self) -> None:
        self._flags: dict[int, list[bool]] = {}

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        if not torch.cuda.is_current_stream_capturing():
            self._flags[len(a)] = (a[:, 0] > 0).tolist()
        one, four = product(a, b), product(a, b, 4)
        return torch.stack([(one if flag else four)[row] for row, flag in enumerate(self._flags[len(a)])])


@pytest.mark.gpu
@needs_gpu
def test_a_fixed_order_is_clean_in_a_graph() -> None:
    assert statuses(on_gpu(product)) == HELD
    assert {r.relation: r.status for r in on_gpu(product).relations}["graph"] == "held"


@pytest.mark.gpu
@needs_gpu
def test_the_graph_relation_catches_what_is_read_on_the_host_at_capture_only() -> None:
    found = on_gpu(ReadsOnTheHost())
    assert {r.relation: r.status for r in found.relations} == HELD | {"graph": "broken"}
    assert found.counterexample is not None
    assert found.counterexample.company.launch == "graph"
    assert found.counterexample.reference.launch == "eager"


@pytest.mark.gpu
@needs_gpu
def test_a_kernel_that_cannot_be_captured_is_unsupported_by_graph_alone_and_the_device_survives() -> None:
    def kernel(a: Tensor, b: Tensor) -> Tensor:
        a[0, 0].item()
        return product(a, b)

    found = on_gpu(kernel)
    by_name = {r.relation: r for r in found.relations}
    assert statuses(found) == HELD
    assert by_name["graph"].status == "unsupported"
    assert by_name["graph"].reason
    assert float(torch.ones(8, device="cuda").sum()) == 8
    assert {r.relation: r.status for r in on_gpu(product).relations}["graph"] == "held"


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kernel", [without_the_last_element, without_the_last_row], ids=called)
def test_elements_never_written_are_counted_on_a_gpu(kernel: Kernel) -> None:
    def there(a: Tensor, b: Tensor) -> Tensor:
        out = torch.empty(len(a), b.shape[1], device=a.device)  # first, as its memory is what is poisoned
        last = 1 if kernel is without_the_last_element else b.shape[1]
        out.view(-1)[:-last] = product(a, b).view(-1)[:-last]
        return out

    assert "elements of the result were never written" in on_gpu(there).wrong


def failing_at(m: int, kernel: Kernel) -> Kernel:
    def chosen(a: Tensor, b: Tensor) -> Tensor:
        if len(a) == m:
            raise RuntimeError(f"no tile for {m} rows")
        result: Tensor = kernel(a, b)
        return result

    return chosen


def test_a_kernel_that_fails_in_a_company_keeps_what_was_found_before() -> None:
    found = verify(failing_at(65, lambda a, b: product(a, b, splits=2 if len(a) < 17 else 1)))
    by_name = {result.relation: result for result in found.relations}
    assert (by_name["batch_size"].status, found.verdict) == ("broken", "variant")
    assert by_name["batch_size"].reason == "RuntimeError with 65 rows: no tile for 65 rows"
    assert by_name["repeat"].status == "failed"
    assert 0 < by_name["repeat"].companies < by_name["batch_size"].companies


def test_a_kernel_that_fails_in_a_company_is_not_called_invariant() -> None:
    found = verify(failing_at(17, product))
    assert found.verdict == "failed"
    assert set(found.digests) == {1}  # of 1 and 17


def test_a_kernel_that_fails_where_no_relation_looks_fails() -> None:
    verifier = Verifier(subject(failing_at(77, product)), seed=0)
    with pytest.raises(RuntimeError, match="no tile for 77 rows"):
        verifier.verify([relations()["repeat"]], Setting(UNIVERSE, sweep(UNIVERSE)), digest_sizes=(1, 77))


def test_the_companies_that_differ_are_named_so_that_the_threshold_shows() -> None:
    def by_size(x: torch.Tensor) -> torch.Tensor:
        # Another order of addition below 32 rows.
        return row_sum(x if len(x) >= 32 else x.flip(1)) / x.shape[1]

    case = Case(arm="planted", operator="mean", shape=Shape(label="test", k=257), precision=Precision.parse("fp32"))
    subject = KernelUnderTest(case, operators()["mean"], by_size, seed=0, universe=128, device=torch.device("cpu"))
    setting = Setting(128, sweep(128))
    found = Verifier(subject, 0).verify([relations()["batch_size"]], setting, []).relations[0]
    sizes = {int(spec.split(":")[1]) for spec in found.broken}
    assert max(sizes) == 31
    # One or two rows may happen to add up alike in both orders.
    assert sizes >= {m for m in setting.sizes if 3 <= m < 32}
    assert f"{len(found.broken)} of {found.companies} batches differ, of {min(sizes)} to 31 rows" in extent(found)


class OfOneSeed(KernelUnderTest):
    """A subject of whose data no other seed's are made."""

    def with_seed(self, seed: int) -> KernelUnderTest:
        raise AssertionError(f"data of seed {seed} were made")


def test_data_of_other_seeds_are_made_for_relations_alone_that_ask_for_them() -> None:
    def mean(x: torch.Tensor) -> torch.Tensor:
        return (row_sum(x) / x.shape[1]).bfloat16()

    case = Case(arm="honest", operator="mean", shape=Shape(label="test", k=64), precision=Precision.parse("bf16"))
    subject = OfOneSeed(case, operators()["mean"], mean, seed=0, universe=32, device=torch.device("cpu"))
    verifier, setting = Verifier(subject, 0), Setting(32, sweep(32))
    found = verifier.verify([relations()["repeat"]], setting, [], more_s=1e6)
    assert found.verdict == "sampled"
    with pytest.raises(AssertionError, match="data of seed"):
        verifier.verify([relations()["neighbour_content"]], setting, [], more_s=3.0)


def test_an_error_is_told_with_its_rows_and_shown_once(capfd: pytest.CaptureFixture[str]) -> None:
    found = {one.relation: one for one in verify(failing_at(5, product), names=("repeat", "batch_size")).relations}
    assert {one.status for one in found.values()} == {"failed"}
    assert {one.reason for one in found.values()} == {"RuntimeError with 5 rows: no tile for 5 rows"}
    assert capfd.readouterr().err.count("Traceback") == 1


def test_a_slow_kernel_is_told_about_in_the_time_there_is() -> None:
    """What was compared until then is an answer; none at all would be given to who asks for too much."""

    def slow(a: Tensor, b: Tensor) -> Tensor:
        time.sleep(0.27)
        return product(a, b)

    names, limit_s = ("repeat", "batch_size", "position", "neighbour_content"), 6.0
    setting = Setting(UNIVERSE, sweep(UNIVERSE), most=2 * UNIVERSE)
    verifier, began = Verifier(subject(slow), seed=0), time.perf_counter()
    found = verifier.verify([relations()[name] for name in names], setting, digest_sizes=(1,), limit_s=limit_s)
    assert time.perf_counter() - began < limit_s
    assert found.verdict == "sampled"
    assert all(result.companies > 0 and result.cut for result in found.relations)


@pytest.mark.parametrize("refusal", [Unsupported, NotImplementedError])
def test_of_batches_that_a_kernel_does_not_take_one_relation_tells_and_the_others_stand(
    refusal: type[Exception],
) -> None:
    def finite_alone(a: Tensor, b: Tensor) -> Tensor:
        if not bool(a.isfinite().all()):
            raise refusal("rows that are not finite")
        return product(a, b)

    found = {one.relation: one for one in verify(finite_alone, names=("repeat", "neighbour_content")).relations}
    assert found["repeat"].status == "held"
    told = found["neighbour_content"]
    assert (told.status, told.reason) == ("unsupported", "does not take all of its batches: rows that are not finite")


@pytest.mark.parametrize(
    ("claims", "name", "binding"),
    [
        (True, "attention_if_workspace_free", False),
        (("concurrency",), "attention_if_workspace_free", True),
        (True, "attention_in_one_buffer", True),
        (("batch_size",), "attention_in_one_buffer", True),
    ],
)
def test_two_calls_of_attention_at_once_are_its_callers_to_prevent_unless_it_names_them(
    claims: Claims, name: str, binding: bool
) -> None:
    """What a later call writes over is wrong in any case."""
    fault = faults()[name]
    case = Case(arm=name, operator=fault.computed.name, shape=fault.shape, precision=Precision.parse(fault.precision))
    under_test = KernelUnderTest(
        case, fault.computed, fault.make(), seed=0, universe=fault.universe, device=torch.device("cpu")
    )
    setting = Setting(fault.universe, sweep(fault.universe), longest=fault.shape.tokens or 0, most=2 * fault.universe)
    found = Verifier(under_test, seed=0, claims=claims).verify([relations()["concurrency"]], setting, (1,), 5.0)
    result = next(one for one in found.relations if one.relation == "concurrency")
    assert (result.status, result.binding) == ("broken", binding)
