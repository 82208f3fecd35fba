"""Operators that users define: rows of any shape and dtype, references, results, packed sequences, and mistakes."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels_bench import check
from kernels_bench.operators.base import largest
from kernels_bench.operators.defined import DefinedOperator as Operator
from kernels_bench.operators.defined import definition_only
from kernels_bench.operators.definitions import floats, integers
from kernels_bench.operators.inputs.described import FURTHER, Making, described_rows, described_shared, lengths_of_rows
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.definition import DefinitionError, TensorSpec, evaluated
from kernels_bench.relations import make_batch
from kernels_bench.relations.batch import FIRST_IN_COMMON, FIRST_SPECIAL, HOSTILE, IN_COMMON, IN_TURN, SPECIAL
from kernels_bench.verification.bitwise import bits, same_bits
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.subject.launched import KernelFault, MalformedResult

CPU = torch.device("cpu")
USUAL = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
ROWS = 9

trailing = st.lists(st.integers(1, 5), max_size=3).map(tuple)
any_floats = st.builds(
    lambda dims, dtype: floats(*dims, dtype=dtype),
    trailing,
    st.sampled_from([None, "bf16", "fp16", "fp32", "fp8_e4m3", "fp8_e5m2"]),
)
ranged_floats = st.builds(
    lambda dims, low, width: floats(*dims, dtype="fp32", low=low, high=low + width),
    trailing,
    st.integers(-3, 3),
    st.integers(1, 9),
)
any_integers = st.builds(
    lambda dims, dtype, low, width: integers(*dims, dtype=dtype, low=low, high=low + width),
    trailing,
    st.sampled_from(["int64", "int32", "int8", "uint8"]),
    st.integers(0, 20),
    st.integers(1, 100),
)
tensors = st.one_of(any_floats, ranged_floats, any_integers)


def made(spec: TensorSpec, count: int = ROWS, seed: int = 0, usual: str = "bf16", added: bool = False) -> torch.Tensor:
    return described_rows(spec, "x", count, Making({"d": 3}, USUAL[usual], seed, CPU), added)


@settings(max_examples=60, deadline=None)
@given(spec=tensors, usual=st.sampled_from(sorted(USUAL)), seed=st.integers(0, 3))
def test_a_row_is_the_same_in_every_universe_and_has_its_shape_and_dtype(
    spec: TensorSpec, usual: str, seed: int
) -> None:
    few, many = (made(spec, count, seed, usual) for count in (4, ROWS))
    assert few.shape == (4 + FURTHER, *spec.dims)
    assert many.dtype is few.dtype
    assert same_bits(few[:4], many[:4])
    assert same_bits(few[4:], many[ROWS:])
    assert same_bits(made(spec, ROWS, seed, usual)[ROWS:], made(spec, ROWS, seed + 1, usual)[ROWS:])
    ordinary = many[:ROWS].double()
    assert ordinary.isfinite().all()


@settings(max_examples=60, deadline=None)
@given(spec=st.one_of(ranged_floats, any_integers), seed=st.integers(0, 3))
def test_a_range_is_kept_by_every_row_the_hostile_ones_too(spec: TensorSpec, seed: int) -> None:
    table = made(spec, seed=seed).double()
    assert isinstance(spec.low, int)
    assert isinstance(spec.high, int)
    assert table.min() >= spec.low
    assert (table.max() < spec.high) if spec.integers else (table.max() <= spec.high)
    last = spec.high - 1 if spec.integers else spec.high
    assert (table[ROWS + HOSTILE.index("huge")] == last).all()
    assert (table[ROWS + FIRST_SPECIAL + SPECIAL.index("constant")] == spec.low).all()
    shared = described_shared(spec, "w", Making({}, torch.bfloat16, seed, CPU))
    assert shared.shape == spec.dims
    assert shared.double().min() >= spec.low


@settings(max_examples=40, deadline=None)
@given(
    first=any_floats,
    others=st.lists(tensors, max_size=2),
    spec=st.sampled_from(["first:7", "reverse:5", "shuffle:6:1", "nan:5:1", "special:10:3", "copies:4:2"]),
)
def test_rows_of_any_tensors_pass_unchanged_through_a_launch(
    first: TensorSpec, others: list[TensorSpec], spec: str
) -> None:
    specs = {f"t{number}": one for number, one in enumerate([first, *others])}
    results = list(specs.values())
    operator = Operator.define("copy", rows=specs, shapes={"s": {"d": 1}}, results=results)
    subject = of(operator, lambda *rows: tuple(row.clone() for row in rows))
    company = make_batch(spec, ROWS)
    outputs = subject.run(company)
    for output, table in zip(outputs, subject.tables, strict=True):
        assert same_bits(output, table[torch.as_tensor(np.array(company.rows))])


def of(operator: Operator, kernel: Callable[..., Any], dtype: str = "bf16", universe: int = ROWS) -> KernelUnderTest:
    case = Case(arm="a", operator=operator.name, shape=operator.shapes[0], precision=Precision.parse(dtype))
    return KernelUnderTest(case, operator, kernel, seed=0, universe=universe, device=CPU)


def test_only_the_first_tensor_without_a_range_is_special() -> None:
    operator = Operator.define(
        "add",
        rows={"scale": floats(1, low=0, high=1), "x": ("d",), "y": ("d",)},
        shapes={"s": {"d": 8}},
        results=("d",),
    )
    scale, x, y = operator.rows(operator.shapes[0], 4, torch.float32, 0, CPU)
    special = slice(4 + FIRST_SPECIAL, None)
    assert scale.isfinite().all()
    assert x[special].isnan().any()
    # Of two infinities, or NaN, a sum would be left open.
    assert int((~y[special].isfinite()).any(1).sum()) == 2
    assert x[special][(~y[special].isfinite()).any(1)].isfinite().all()


@pytest.mark.parametrize(
    ("written", "value"), [("2*d", 24), ("d//2+h", 11), ("(d-2)*h", 50), (7, 7), ("-1*d + 13", 1), (" d ", 12)]
)
def test_sizes_are_expressions(written: str | int, value: int) -> None:
    assert evaluated(written, {"d": 12, "h": 5}) == value


# --- the reference ---------------------------------------------------------------------------------------


def test_a_reference_takes_what_it_names_in_float64() -> None:
    seen: dict[str, Any] = {}

    def reference(x: torch.Tensor, ids: torch.Tensor, table: torch.Tensor, eps: float, d: int) -> torch.Tensor:
        seen.update(x=x.dtype, ids=ids.dtype, table=table.dtype, eps=eps, d=d)
        return x * table[ids] + eps

    operator = Operator.define(
        "looked_up",
        rows={"x": ("d",), "ids": integers(high="d", dtype="int32")},
        shared={"table": ("d",), "eps": 0.5},
        shapes={"s": {"d": 6}},
        reference=lambda x, ids, table, eps, d: reference(x, ids[:, None], table, eps, d),
        arguments=("ids", "x", "table", "d"),
    )
    subject = of(operator, lambda ids, x, table, d: (x.float() * table[ids.long()].float()[:, None] + 0.5).to(x.dtype))
    assert subject.result_shapes(3) == ((3, 6),)
    inputs = subject.operator.inputs_of(torch.arange(ROWS), subject.tables)
    (exact,), (allowed,) = subject.operator.reference_and_tolerance(inputs, subject.weights, torch.bfloat16)
    assert seen == {"x": torch.float64, "ids": torch.int64, "table": torch.float64, "eps": 0.5, "d": 6}
    (got,) = subject.run(make_batch(f"first:{ROWS}", ROWS))
    assert ((got.double() - exact).abs() <= allowed).all()
    assert allowed.shape == exact.shape


@pytest.mark.parametrize("share", [None, 1e-2, lambda exact: exact.abs() * 1e-2 + 1e-3])
def test_an_error_is_allowed_that_is_not_too_large(share: Any) -> None:
    operator = Operator.define(
        "double", rows={"x": ("d",)}, shapes={"s": {"d": 32}}, reference=lambda x: 2 * x, allowed_error=share
    )
    subject = of(operator, lambda x: 2 * x)
    inputs = subject.operator.inputs_of(torch.arange(ROWS), subject.tables)
    (exact,), (allowed,) = subject.operator.reference_and_tolerance(inputs, (), torch.bfloat16)
    assert ((2.001 * inputs[0].double() - exact).abs() <= allowed).all()
    assert not ((3 * inputs[0].double() - exact).abs() <= allowed).all()


def test_what_is_too_large_for_the_dtype_is_infinite() -> None:
    operator = Operator.define(
        "square", rows={"x": ("d",)}, shapes={"s": {"d": 2}}, reference=lambda x: x * x * 1e6, dtypes=("fp16",)
    )
    rows = (torch.tensor([[1.0, 1e-4]], dtype=torch.float16),)
    (exact,), _ = operator.reference_and_tolerance(rows, (), torch.float16)
    assert exact[0, 0] == math.inf
    assert exact[0, 1] < 1


def test_whole_numbers_are_right_or_not() -> None:
    operator = Operator.define(
        "top", rows={"x": ("n",)}, shapes={"s": {"n": 9}}, reference=lambda x: x.argmax(1, keepdim=True)
    )
    subject = of(operator, lambda x: x.argmax(1, keepdim=True))
    assert subject.result_dtypes == (torch.int64,)
    inputs = subject.operator.inputs_of(torch.arange(ROWS), subject.tables)
    (exact,), (allowed,) = subject.operator.reference_and_tolerance(inputs, (), torch.bfloat16)
    assert (allowed == 0.5).all()
    assert torch.equal(subject.run(make_batch(f"first:{ROWS}", ROWS))[0].double(), exact)


def test_ids_that_no_16_bit_float_reaches_are_no_infinities() -> None:
    for results in (None, [integers()]):
        operator = Operator.define(
            "top", rows={"x": ("n",)}, shapes={"s": {"n": 9}}, results=results, reference=lambda x: x.argmax(1) + 70_000
        )
        rows = (torch.eye(9, dtype=torch.float16),)
        (exact,), _ = operator.reference_and_tolerance(rows, (), torch.float16)
        assert exact.tolist() == [70_000.0 + place for place in range(9)]


# --- results ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (lambda x: x, "returns 1 results instead of 2"),
        (lambda x: (x, x[:, :2].long()), "returns torch.int64 instead of torch.int32"),
        (lambda x: (x, x[:, :3].int()), r"returns shape \(9, 3\) instead of \(9, 2\) for 9 rows"),
    ],
)
def test_a_result_of_another_form_is_told(kernel: Callable[..., Any], said: str) -> None:
    operator = Operator.define(
        "two", rows={"x": ("d",)}, shapes={"s": {"d": 4}}, results=[("d",), integers(2, dtype="int32")]
    )
    with pytest.raises(MalformedResult, match=said):
        of(operator, kernel).run(make_batch(f"first:{ROWS}", ROWS))


def test_whole_numbers_that_were_not_written_are_seen_as_such_and_eight_bits_are_left_alone() -> None:
    from kernels_bench.verification.subject.poison import poison, unwritten

    for dtype, known in ((torch.int64, 6), (torch.int32, 6), (torch.float8_e4m3fn, 0), (torch.uint8, 0)):
        values = torch.zeros(2, 3).to(dtype)
        poison(values)
        assert (bits(values) != 0).all()
        assert unwritten(values) == known
    assert unwritten(torch.full((3,), -91)) == 0


@pytest.mark.parametrize(("overwrites", "refused"), [(("x",), False), ((), True)])
def test_writing_into_rows_must_be_said(overwrites: tuple[str, ...], refused: bool) -> None:
    operator = Operator.define(
        "add_one", rows={"x": ("d",)}, shapes={"s": {"d": 4}}, results=("d",), overwrites=overwrites
    )
    subject = of(operator, lambda x: x.add_(1).clone())
    launched = subject.start(make_batch("reverse:5", ROWS))
    if refused:
        with pytest.raises(KernelFault, match="writes into its rows: argument 0"):
            subject.check_inputs([launched])
    else:
        subject.check_inputs([launched])


def test_what_is_computed_in_place_is_to_be_returned() -> None:
    operator = Operator.define("add_one", rows={"x": ("d",)}, shapes={"s": {"d": 4}}, results=("d",), overwrites=("x",))

    def in_place(x: torch.Tensor) -> None:
        x.add_(1)

    with pytest.raises(
        MalformedResult, match="NoneType instead of a tensor: what is computed in place is to be returned"
    ):
        of(operator, in_place).start(make_batch("first:5", ROWS))


@pytest.mark.parametrize(("allowed", "hinted"), [(None, True), (1e-7, False)])
def test_who_guesses_what_is_allowed_says_how_to_state_it(allowed: float | None, hinted: bool) -> None:
    operator = Operator.define(
        "dot", rows={"x": ("d",), "y": ("d",)}, shapes={"s": {"d": 64}}, results=[floats(dtype="fp32")],
        reference=lambda x, y: (x * y).sum(1), allowed_error=allowed,
    )  # fmt: skip
    found = check(lambda x, y: (x * y).sum(1) * 1.00001, operator=operator, dtypes=("fp32",), relations=("repeat",))
    assert not found.held
    assert ("(allowed_error)" in found.summary()) == hinted


# --- packed sequences ------------------------------------------------------------------------------------


def ends_of(cu_seqlens: torch.Tensor) -> list[tuple[int, int]]:
    ends = cu_seqlens.tolist()
    return list(pairwise(ends))


def running(x: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
    return torch.cat([x[begin:end].cumsum(0) for begin, end in ends_of(cu_seqlens)])


@settings(max_examples=30, deadline=None)
@given(
    least=st.integers(1, 4),
    more=st.integers(0, 6),
    spec=st.sampled_from(["first:7", "last:3", "reverse:5", "shuffle:6:1", "huge:5:1", "special:10:3", "copies:4:2"]),
)
def test_sequences_are_packed_and_their_tokens_known(least: int, more: int, spec: str) -> None:
    operator = Operator.define(
        "scan",
        rows={"x": ("d",), "ids": integers(high=50)},
        shapes={"s": {"d": 3}},
        lengths=(least, least + more),
        reference=running,
        allowed_error=1e-3,
        arguments=("x", "cu_seqlens"),
        dtypes=("fp32",),
    )
    seen: list[list[int]] = []

    def kernel(x: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
        seen.append(cu_seqlens.diff().tolist())
        assert cu_seqlens.dtype is torch.int32
        assert len(x) == cu_seqlens[-1]
        return running(x, cu_seqlens)

    subject = of(operator, kernel, "fp32")
    lengths = lengths_of_rows(ROWS, (least, least + more))
    assert lengths.min() >= least
    assert {least, least + more} <= {*lengths[:ROWS].tolist()}
    company = make_batch(spec, ROWS)
    (output,) = subject.run(company)
    assert seen[0] == lengths[company.rows].tolist()
    lines = subject.lines(company)
    assert len(lines.ids) == len(output)
    places = [subject.operator.locate_row(line) for line in lines.ids.tolist()]
    assert [row for row, _ in places] == np.repeat(company.rows, lengths[company.rows]).tolist()
    assert [token for _, token in places] == [token for n in lengths[company.rows] for token in range(n)]
    some = torch.as_tensor(lines.ids[lines.compared][::2].copy())
    ordinary = some[some < ROWS * (least + more)]
    if len(ordinary):
        inputs = subject.operator.inputs_of(ordinary, subject.tables)
        (exact,), (allowed,) = subject.operator.reference_and_tolerance(inputs, subject.weights, torch.float32)
        alone = {int(line): value for line, value in zip(lines.ids.tolist(), output, strict=True)}
        for line, right, bound in zip(ordinary.tolist(), exact, allowed, strict=True):
            assert ((alone[line].double() - right).abs() <= bound).all()


def test_universes_of_sequences_are_smaller_and_what_is_timed_fits_into_them() -> None:
    packed = Operator.define("p", rows={"x": ("d",)}, shapes={"s": {"d": 3}}, results=("d",), lengths=(1, 9))
    rows = Operator.define("r", rows={"x": ("d",)}, shapes={"s": {"d": 3}}, results=("d",))
    for device in ("cpu", "cuda"):
        assert max(packed.timed[device]) <= packed.universe[device] < rows.universe[device]


# --- what costs what, and data alone ---------------------------------------------------------------------


def test_bytes_count_every_tensor_once() -> None:
    operator = Operator.define(
        "mixed",
        rows={"x": ("2*d",), "ids": integers(3, dtype="int32"), "f8": floats("d", dtype="fp8_e4m3")},
        shared={"weight": ("d", "d"), "eps": 1.0},
        shapes={"s": {"d": 10}},
        results=[("d",), integers(2)],
    )
    shape = operator.shapes[0]
    row = 2 * 20 + 4 * 3 + 10
    assert operator.bytes_moved(shape, Precision.parse("bf16:fp32"), 7) == 7 * (row + 4 * 10 + 8 * 2) + 2 * 100
    assert operator.row_sizes(shape) == (20, 3, 10)


def test_an_operator_can_be_made_of_its_data_alone() -> None:
    operator = Operator.define("act", rows={"x": ("2*d",)}, shapes={"s": {"d": 96}}, reference=lambda x, d: x[:, :d])
    there = definition_only([type(operator.definition).model_validate_json(operator.definition.model_dump_json())])
    alone = there["act"]
    assert not alone.has_reference
    assert alone.shapes == operator.shapes
    precision, shape = Precision.parse("bf16"), operator.shapes[0]
    # What a result is nobody knows there: it is taken to be as large as a row.
    assert alone.verification_bytes(shape, precision, 9) >= operator.verification_bytes(shape, precision, 9) > 0
    assert alone.huge_rows(shape) > 0


def test_shapes_have_sizes_by_name() -> None:
    shape = Shape.of("odd", {"heads": 3, "h": 64})
    assert (shape.token, shape.invented) == ("3x64", False)
    assert Shape.model_validate_json(shape.model_dump_json()) == shape


# --- mistakes --------------------------------------------------------------------------------------------

RIGHT: dict[str, Any] = {"rows": {"x": ("2*d",)}, "shapes": {"odd": {"d": 3}}, "results": ("d",)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": {}}, "rows is empty: say what one row is"),
        ({"rows": ("d",)}, r"rows is \('d',\): expected tensors by name"),
        ({"rows": {"x": "2*d"}}, r"rows: x is '2\*d': expected a tuple of sizes, such as \('2\*d',\)"),
        ({"rows": {"x": (1.5,)}}, r"rows: x is \(1.5,\): expected sizes such as"),
        ({"rows": {"x": ("2*e",)}}, r"x, shape odd: '2\*e' needs a size e: there is d=3"),
        ({"rows": {"x": ("2**d",)}}, r"x, shape odd: '2\*\*d' is no size: expected a number or such as 'd//2'"),
        ({"rows": {"x": ("d-3",)}}, "x, shape odd: the size 'd-3' is 0 where d=3: it must be from 1 on"),
        ({"rows": {"x": ("d//0",)}}, "x, shape odd: 'd//0' divides by zero where d=3"),
        ({"rows": {"x": integers(high=0)}}, "x, shape odd: no value lies between 0 and 0"),
        ({"rows": {"d": ("d",)}}, "two things are called d"),
        ({"shared": {"x": 1.0}}, "two things are called x"),
        ({"shared": {"w": None}}, "shared: w is None: expected sizes"),
        ({"shapes": {}}, "shapes is {}: expected sizes by name"),
        ({"shapes": {"odd": 3}}, "shape odd is 3: expected sizes by name"),
        ({"shapes": {"odd": {"d": 0}}}, "shape odd: d is 0, and must be a whole number from 1 on"),
        ({"shapes": {"odd": {"d": 3}, "b": {"e": 3}}}, "shape b has no size d, which shape odd has"),
        ({"shapes": {"odd": {"d": 3}, "b": {"d": 3, "e": 3}}}, "shape b has a size e, which shape odd does not have"),
        ({"shapes": {"7": {"d": 3}}}, "the name '7' must be a word without ',' that is no number"),
        ({"results": []}, "results is empty"),
        ({"results": None}, r'give results=\("d",\), or a reference'),
        ({"arguments": ("x", "y")}, "arguments names 'y', which is unknown; known are x, d"),
        ({"arguments": "x"}, "arguments is 'x': expected a tuple of names"),
        ({"overwrites": ("d",)}, "overwrites names 'd', which is unknown"),
        ({"dtypes": ("bf61",)}, "dtypes names 'bf61', which is unknown; did you mean bf16"),
        ({"lengths": 7}, r"lengths is 7: expected the fewest and the most tokens of a row, such as lengths=\(1, 64\)"),
        ({"lengths": (5, 2)}, r"lengths is \(5, 2\)"),
        ({"reference": lambda y: y}, "its reference takes 'y'; there is x, d"),
        ({"reference": torch.neg}, "its reference is no function of Python's"),
    ],
)
def test_a_definition_that_makes_no_sense_is_told_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said) as caught:
        Operator.define("mine", **{**RIGHT, **changes})
    assert str(caught.value).startswith("operator 'mine': ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "two words", "a/b", "a=b", 7])
def test_a_name_is_one_word(name: Any) -> None:
    with pytest.raises(DefinitionError, match="must be one word"):
        Operator.define(name, **RIGHT)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: floats("d", dtype="int32"), "floats.dtype='int32'.: expected one of bf16"),
        (lambda: integers("d", dtype="fp32"), "integers.dtype='fp32'.: expected one of int64"),
        (lambda: floats("d", high=1), "say what the least value is, too, by low="),
    ],
)
def test_a_tensor_that_makes_no_sense_is_told(make: Callable[[], TensorSpec], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        make()


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (lambda x, d: x[:, :d].sum(0), r"gives shape \(3,\) for 3 rows|gives rows of shape \(\)"),
        (lambda x: x.sum(), r"gives shape \(\) for 3 rows: its first dimension must count them"),
        (lambda x: x, r"gives rows of shape \(6,\) at shape odd, where results says \(3,\)"),
        (lambda x, d: (x[:, :d], x), r"gives rows of shape \(3,\), \(6,\) at shape odd, where results says \(3,\)"),
        (lambda x, d: x[:, :d].float(), "gives torch.float32: it must compute in float64"),
        (lambda x: "y", "gives str instead of a tensor"),
        (lambda x: x[:, :d], "names the size d and does not take it: write lambda x, d: …"),  # type: ignore[name-defined]  # noqa: F821
    ],
)
def test_a_reference_that_gives_something_else_is_told(reference: Callable[..., Any], said: str) -> None:
    operator = Operator.define("mine", **RIGHT, reference=reference)
    with pytest.raises(DefinitionError, match=said) as caught:
        operator.refuse_wrong_reference()
    assert str(caught.value).startswith("operator 'mine': its reference ")


def test_a_reference_that_looks_at_data_is_asked_with_data() -> None:
    def reference(x: torch.Tensor, d: int) -> torch.Tensor:
        assert x.isfinite().all().item()
        return x[:, :d] if float(x[0, 0]) < 1e9 else x

    operator = Operator.define("mine", **{**RIGHT, "results": None}, reference=reference)
    operator.refuse_wrong_reference()
    assert operator.result_shapes(operator.shapes[0], 5) == ((5, 3),)


@pytest.mark.parametrize("share", [0, -1, float("nan"), float("inf"), True, "x"])
def test_an_allowed_error_that_is_no_share_is_refused(share: Any) -> None:
    with pytest.raises(DefinitionError, match="expected a share above 0, or a function"):
        Operator.define("d", rows={"x": ("d",)}, shapes={"s": {"d": 4}}, results=("d",), allowed_error=share)


def test_a_share_of_whole_numbers_is_refused() -> None:
    def define(allowed: Any) -> Operator:
        return Operator.define(
            "ids", rows={"x": ("d",)}, shapes={"s": {"d": 4}}, results=integers(dtype="int32"), allowed_error=allowed
        )

    with pytest.raises(DefinitionError, match="whole numbers are right or not; a function of the results can allow"):
        define(0.1)
    assert define(lambda ids: ids * 0 + 1.5).name == "ids"


def test_a_function_that_gives_too_few_bounds_is_blamed_itself() -> None:
    operator = Operator.define(
        "two",
        rows={"x": ("d",)},
        shapes={"s": {"d": 4}},
        reference=lambda x: (x, 2 * x),
        allowed_error=lambda one, other: one.abs(),
    )
    rows = (torch.ones(3, 4),)
    with pytest.raises(DefinitionError, match="gives 1 bounds for 2 results"):
        operator.for_shape(operator.shapes[0]).reference_and_tolerance(rows, (), torch.float32)


def test_the_largest_number_is_that_of_the_moment_and_no_tensor_is_kept() -> None:
    rows = torch.tensor([[1.0, -torch.inf, -3.0], [torch.nan, 0.0, 2.0]])
    assert largest(rows).tolist() == [3.0, 2.0]
    rows[0, 0] = 4
    assert largest(rows).tolist() == [4.0, 2.0]
    alone = weakref.ref(rows)
    del rows
    assert alone() is None


def test_some_rows_of_a_range_are_simple_and_some_have_one_tensor_at_its_end() -> None:
    operator = Operator.define(
        "ranged",
        rows={
            "x": floats("d", low=0.0, high=1.0),
            "scale": floats("d", low=2.0**-4, high=0.3),
            "mask": integers("d", low=-(2**31), high=2**31, dtype="int32"),
            "position": integers("d", high=7),
        },
        shapes={"any": {"d": 9}},
        results=("d",),
    )
    tables = operator.rows(operator.shapes[0], 97, torch.float32, 1, CPU)
    of = FIRST_IN_COMMON
    x, scale, mask, position = (table[:97] for table in tables)
    assert {*x[of.bits :: IN_COMMON].flatten().tolist()} == {0.0, 1.0}
    assert {*mask[of.bits :: IN_COMMON].flatten().tolist()} == {-1}
    assert bool((scale[of.powers :: IN_COMMON].log2() % 1 == 0).all())
    assert len({*scale[of.powers :: IN_COMMON].flatten().tolist()}) > 1
    assert position[of.unit :: IN_COMMON].tolist() == 3 * [[0, 1, 2, 3, 4, 5, 6, 0, 1]]
    ends = (of.first_least, of.second_least)
    least = [bool((table[at::IN_COMMON] == table.min()).all()) for at in ends for table in (x, scale)]
    assert least == [True, False, False, True]


def test_parameters_of_a_row_are_at_their_defaults_together_and_zero_within_a_range_is_one() -> None:
    operator = Operator.define(
        "sampled",
        rows={
            "x": floats("d", low=-8.0, high=8.0),
            "temperature": floats(low=0.1, high=2.0),
            "top_p": floats(low=0.0, high=1.0),
            "min_p": floats(low=0.0, high=1.0),
            "frequency": floats(low=-2.0, high=2.0),
            "bias": floats("d", low=-2.0, high=2.0),
            "zero_point": integers(low=-128, high=128),
            "position": integers(high=1000),
        },
        shapes={"any": {"d": 9}},
        results=("d",),
    )
    tables = [table[:97] for table in operator.rows(operator.shapes[0], 97, torch.float32, 1, CPU)]
    of = FIRST_IN_COMMON

    def defaults(first: int) -> list[tuple[float, ...]]:
        each = (table[first::IN_COMMON].flatten().tolist() for table in tables[1:5])
        return list(dict.fromkeys(zip(*each, strict=True)))

    assert [defaults(first) for first in (of.nothing, of.unit, of.led, of.ended)] == [
        [(1.0, 0.0, 0.0, 0.0)],
        [(1.0, 1.0, 1.0, 1.0)],
        [(1.0, 0.0, 1.0, 0.0)],
        [(1.0, 1.0, 0.0, 1.0)],
    ]
    assert not tables[5][of.nothing :: IN_COMMON].any()
    assert not tables[6][of.nothing :: IN_COMMON].any()
    assert tables[0][of.nothing :: IN_COMMON].all()
    (another,) = {*tables[1][of.another :: IN_COMMON].flatten().tolist()}
    assert another % 1


def test_single_integers_go_up_by_one_and_by_two_in_turn() -> None:
    operator = Operator.define(
        "placed", rows={"position": integers(high=1000)}, shapes={"any": {"d": 2}}, results=("d",)
    )
    (position,) = operator.rows(operator.shapes[0], 2 * IN_TURN, torch.float32, 1, CPU)
    runs = [position[first : first + 5].diff() % 1000 for first in (0, IN_TURN)]
    assert [{*run.tolist()} for run in runs] == [{1}, {2}]
