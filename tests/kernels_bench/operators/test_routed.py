"""Rows that choose experts or an adapter: what they choose, what is right of it, and that what is wrong is found."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.arms import Kernel
from kernels_bench.arms.pytorch.calls import lora, moe
from kernels_bench.faults.planted.routed import chosen
from kernels_bench.faults.planted.sums import Sum, in_groups, in_sequence, pairwise
from kernels_bench.operators import Operator, operators
from kernels_bench.operators.inputs.described import FURTHER
from kernels_bench.operators.layers.routing import choices_met, routed_ids
from kernels_bench.order.batch_sweep import Task
from kernels_bench.order.case_order import order_of
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.results import Verification
from kernels_bench.relations import Setting, make_batch, relations
from kernels_bench.relations.base import sweep
from kernels_bench.relations.batch import ELSEWHERE, HOSTILE, routed_alike
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.verifier import Verifier

CPU = torch.device("cpu")
KERNELS = {**moe.KERNELS, **lora.KERNELS}
NAMES = ("router_gemm", "moe_gating", "moe_experts", "moe_sum", "lora_shrink", "lora_expand")
UNIVERSE = 65


def small(name: str, label: str = "small/unaligned") -> Shape:
    return next(shape for shape in operators()[name].shapes if shape.label == label)


def at(name: str, label: str = "small/unaligned") -> Operator:
    return operators()[name].for_shape(small(name, label))


def with_dtype(kernel: Kernel, precision: Precision) -> Kernel:
    def bound(*arguments: Any) -> Any:
        return kernel(*arguments, out_dtype=precision.torch_output)

    return bound


def verified(name: str, kernel: Kernel, *chosen_relations: str, text: str = "fp32", seed: int = 0) -> Verification:
    precision = Precision.parse(text)
    case = Case(arm="test", operator=name, shape=small(name), precision=precision)
    bound = with_dtype(kernel, precision) if name == "router_gemm" else kernel
    subject = KernelUnderTest(case, operators()[name], bound, seed=seed, universe=UNIVERSE, device=CPU)
    wanted = [relations()[one] for one in chosen_relations]
    return Verifier(subject, seed).verify(wanted, Setting(UNIVERSE, sweep(UNIVERSE)), [])


def broken(found: Verification) -> set[str]:
    return {result.relation for result in found.relations if result.status == "broken"}


@given(st.integers(0, 9), st.integers(1, 80), st.integers(2, 40), st.data())
def test_choices_are_distinct_and_alike_where_rows_are(
    seed: int, count: int, choices: int, data: st.DataObject
) -> None:
    top = data.draw(st.integers(1, choices))
    ids = routed_ids(seed, count, choices, top, CPU)
    assert (ids.shape, ids.dtype) == ((count + FURTHER, top), torch.int32)
    assert int(ids.min()) >= 0
    assert int(ids.max()) < choices
    assert all(len(set(row)) == top for row in ids.tolist())
    alike = np.flatnonzero(routed_alike(np.arange(count)))
    infinite, nan = (count + HOSTILE.index(kind) for kind in ("inf", "nan"))
    further = [row for row in range(count, count + FURTHER) if row not in (count + ELSEWHERE, infinite, nan)]
    assert (sorted(ids[infinite].tolist())[0], sorted(ids[nan].tolist())[-1]) == (0, choices - 1)
    assert {tuple(row) for row in ids[[*alike, *further]].tolist()} == {tuple(ids[0].tolist())}
    if 2 * top <= choices:
        assert not set(ids[0].tolist()) & set(ids[count + ELSEWHERE].tolist())
    # A row is the same whatever stands after it.
    assert torch.equal(routed_ids(seed, count + 7, choices, top, CPU)[:count], ids[:count])


def test_seeds_choose_differently_and_some_choices_are_more_popular() -> None:
    first, second = (routed_ids(seed, 4096, 64, 4, CPU)[:4096] for seed in (0, 1))
    assert first[0].tolist() != second[0].tolist()
    drawn = first[torch.from_numpy(~routed_alike(np.arange(4096)))].flatten().bincount(minlength=64).double()
    assert drawn.min() > 0
    assert 1.5 < drawn[::8].mean() / drawn[1::8].mean() < 2.5


def test_more_choices_than_there_are_say_so() -> None:
    with pytest.raises(ValueError, match="9 of 8 experts"):
        routed_ids(0, 4, 8, 9, CPU)


@pytest.mark.parametrize("name", ["moe_experts", "lora_shrink", "lora_expand"])
def test_memory_is_counted_of_what_was_chosen_alone(name: str) -> None:
    operator, shape, precision = operators()[name], small(name), Precision.parse("bf16")
    tables = operator.rows(shape, UNIVERSE, torch.bfloat16, 0, CPU)
    (weights,) = (operator.weights(shape, torch.bfloat16, 0, CPU),)
    (ids,) = (table for table in tables if table.dtype is torch.int32)
    for m in (1, 2, 5, 64):
        met = len(ids[:m].unique())
        assert met == choices_met(m, len(weights[0]), max(1, ids[0].numel()))
        results = sum(
            torch.Size(sizes).numel() * dtype.itemsize
            for sizes, dtype in zip(
                operator.result_shapes(shape, m), operator.result_dtypes(shape, precision), strict=True
            )
        )
        expected = sum(t[:m].nbytes for t in tables) + met * sum(w[0].nbytes for w in weights) + results
        assert operator.bytes_moved(shape, precision, m) == expected
    one = operator.row_bytes(shape, precision, UNIVERSE)
    assert one == sum(t[:1].nbytes for t in tables) + results / 64
    assert operator.verification_bytes(shape, precision, UNIVERSE) > 4 * sum(w.nbytes for w in weights)


def _from_its_definition(name: str, given: list[Any], top: int) -> list[Any]:
    """One row after the other, in numpy."""
    if name == "router_gemm":
        x, weight = given
        return [x @ weight.T]
    if name == "moe_sum":
        return [given[0].sum(1)]
    if name == "moe_gating":
        powers = np.exp(given[0] - given[0].max(1, keepdims=True))
        order = np.argsort(-powers, axis=1)[:, :top]
        kept = np.take_along_axis(powers, order, 1)
        shares = np.zeros_like(powers)
        np.put_along_axis(shares, order, kept / kept.sum(1, keepdims=True), 1)
        return [kept / kept.sum(1, keepdims=True), None, shares]
    if name == "moe_experts":
        x, w1, w2, weights, ids = given
        rows = []
        for row, choices, shares in zip(x, ids, weights, strict=True):
            inner = [np.split(w1[one] @ row, 2) for one in choices]
            each = [w2[one] @ (g / (1 + np.exp(-g)) * u) for one, (g, u) in zip(choices, inner, strict=True)]
            rows.append(sum(share * one for share, one in zip(shares, each, strict=True)))
        return [np.stack(rows)]
    x, matrices, ids, *added = given
    products = np.stack([matrices[one] @ row for row, one in zip(x, ids, strict=True)])
    return [products + added[0] if added else products]


@pytest.mark.parametrize("text", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_references_agree_with_numpy_row_by_row(name: str, text: str) -> None:
    operator, shape, dtype = at(name), small(name), Precision.parse(text).torch_input
    rows = tuple(table[:UNIVERSE] for table in operator.rows(shape, UNIVERSE, dtype, 3, CPU))
    weights = operator.weights(shape, dtype, 3, CPU)
    arguments = [one for one in operator.arguments(rows, weights) if isinstance(one, torch.Tensor)]
    given = [(one.double() if one.is_floating_point() else one).numpy() for one in arguments]
    expected = _from_its_definition(name, given, dict(shape.sizes).get("top", 0))
    exact, allowed = operator.reference_and_tolerance(rows, weights, dtype)
    for right, got, bound in zip(expected, exact, allowed, strict=True):
        assert got.shape == bound.shape
        assert (bound > 0).all()
        if right is not None:
            # Of equal shares either may have been chosen.
            judged = (bound < 1).numpy() if name == "moe_gating" else np.ones(bound.shape, dtype=bool)
            np.testing.assert_allclose(got.double().numpy()[judged], right[judged], rtol=1e-11, atol=1e-12)
    if name == "moe_gating":
        assert 0.8 < (allowed[2] < 1).double().mean() < 1


@pytest.mark.parametrize("text", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_torchs_kernels_are_right(name: str, text: str) -> None:
    found = verified(name, KERNELS[name], "repeat", text=text)
    assert found.wrong == ""
    assert found.accuracy is not None
    assert 0 < found.accuracy.worst < 0.6
    assert not broken(found)


def _without_last_expert(x: Any, w1: Any, w2: Any, weights: Any, ids: Any) -> Any:
    return moe.moe_experts(x, w1, w2, weights[:, :-1], ids[:, :-1])


def _gate_and_up_exchanged(x: Any, w1: Any, w2: Any, weights: Any, ids: Any) -> Any:
    return moe.moe_experts(x, w1.roll(w2.shape[2], 1), w2, weights, ids)


def _second_instead_of_last(logits: Any, top: int) -> Any:
    weights, ids = logits.float().softmax(1).topk(top + 1)
    kept = [*range(top - 1), top]
    return weights[:, kept] / weights[:, kept].sum(1, keepdim=True), ids[:, kept].int()


def _one_expert_twice(logits: Any, top: int) -> Any:
    weights, ids = moe.moe_gating(logits, top)
    ids[:, -1] = ids[:, 0]
    return weights, ids


def _out_of_range(logits: Any, top: int) -> Any:
    weights, ids = moe.moe_gating(logits, top)
    return weights, ids + logits.shape[1]


def _not_renormalised(logits: Any, top: int) -> Any:
    weights, ids = logits.softmax(1).topk(top)
    return weights, ids.int()


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("router_gemm", lambda x, w, out_dtype: (x[:, 1:].double() @ w[:, 1:].double().t()).to(out_dtype)),
        ("moe_experts", _without_last_expert),
        ("moe_experts", _gate_and_up_exchanged),
        ("moe_experts", lambda x, w1, w2, weights, ids: moe.moe_experts(x, w1, w2, weights.flip(1), ids)),
        ("moe_gating", _second_instead_of_last),
        ("moe_gating", _one_expert_twice),
        ("moe_gating", _out_of_range),
        ("moe_gating", _not_renormalised),
        ("moe_sum", lambda x: x[:, 1:].sum(1)),
        ("lora_shrink", lambda x, a, ids: lora.lora_shrink(x, a, ids.roll(1))),
        ("lora_expand", lambda x, b, ids, y: lora.lora_expand(x, b, ids, torch.zeros_like(y))),
        ("lora_expand", lambda x, b, ids, y: y),
    ],
)
def test_what_is_wrong_is_called_wrong(name: str, kernel: Kernel) -> None:
    text = "bf16" if name in ("moe_experts", "lora_expand") else "fp32"
    assert verified(name, kernel, "repeat", text=text).wrong


def _last_of_equals(logits: torch.Tensor, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    weights, ids = moe.moe_gating(logits.flip(1), top)
    return weights, logits.shape[1] - 1 - ids


def _in_no_order(logits: torch.Tensor, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    weights, ids = moe.moe_gating(logits, top)
    return weights.flip(1), ids.flip(1)


@pytest.mark.parametrize("text", ["fp32", "bf16"])
@pytest.mark.parametrize("kernel", [_last_of_equals, _in_no_order])
def test_any_legal_choice_among_equals_is_right_and_shows_in_bits(kernel: Callable[..., Any], text: str) -> None:
    operator, shape = at("moe_gating"), small("moe_gating")
    (logits,) = operator.rows(shape, UNIVERSE, Precision.parse(text).torch_input, 0, CPU)
    top = dict(shape.sizes)["top"]
    _, usual = moe.moe_gating(logits[:UNIVERSE], top)
    assert (kernel(logits[:UNIVERSE], top)[1] != usual).any()
    assert verified("moe_gating", kernel, "repeat", text=text).wrong == ""

    def at_large_batches(given: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        return kernel(given, size) if len(given) >= 16 else moe.moe_gating(given, size)

    assert "batch_size" in broken(verified("moe_gating", at_large_batches, "batch_size", text=text))


def test_what_a_router_chose_is_told_by_expert() -> None:
    operator = at("moe_gating")
    weights, ids = torch.tensor([[0.75, 0.25], [0.5, 0.5]]), torch.tensor([[3, 0], [18, 99]], dtype=torch.int32)
    *_, shares = operator.split_result((weights, ids))
    assert shares.shape == (2, 19)
    assert [float(one) for one in (shares[0, 3], shares[0, 0], shares[0].sum())] == [0.75, 0.25, 1.0]
    assert shares[1, 18] == 0.5
    assert len(operator.split_result((weights,))) == 1


# --- the order of addition -------------------------------------------------------------------------------


def _experts_adding(add: Sum) -> Kernel:
    def moe_experts(x: Any, w1: Any, w2: Any, weights: Any, ids: Any) -> Any:
        total = torch.zeros(x.shape)
        for place in range(ids.shape[1]):
            gate, up = chosen(x, w1, ids[:, place], lambda *_: in_sequence).chunk(2, 1)
            between = torch.nn.functional.silu(gate) * up
            total += chosen(between, w2, ids[:, place], lambda *_: add) * weights[:, place, None]
        return total.to(x.dtype)

    return moe_experts


def _by_name(add: Sum) -> dict[str, Kernel]:
    def always(*_: int) -> Sum:
        return add

    return {
        "moe_experts": _experts_adding(add),
        "moe_sum": lambda x: add(x.float()).to(x.dtype),
        "lora_shrink": lambda x, a, ids: chosen(x, a, ids, always),
        "lora_expand": lambda x, b, ids, y: (y.float() + chosen(x, b, ids, always)).to(y.dtype),
    }


ORDER_SHAPES = {
    "moe_experts": {"hidden": 5, "inter": 12, "experts": 4, "top": 2},
    "moe_sum": {"top": 12, "hidden": 5},
    "lora_shrink": {"hidden": 12, "rank": 5, "adapters": 3},
    "lora_expand": {"n": 5, "rank": 12, "adapters": 3},
}


@pytest.mark.parametrize("text", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ORDER_SHAPES)
def test_the_order_of_addition_is_read(name: str, text: str) -> None:
    shape = Shape.of("test", ORDER_SHAPES[name])
    case = Case(arm="test", operator=name, shape=shape, precision=Precision.parse(text))
    operator, task = operators()[name].for_shape(shape), Task((1, 2, 5), 0, 60.0)
    sequence, grouped, paired = (
        order_of(case, operator, _by_name(add)[name], task, CPU)[0] for add in (in_sequence, in_groups(3), pairwise)
    )
    assert [order.status for order in (sequence, grouped, paired)] == ["proven"] * 3
    assert sequence.terms == 12
    assert len({order.found[0].digest for order in (sequence, grouped, paired)}) == 3
    assert "12 terms one after the other" in sequence.found[0].words

    def by_rows(*arguments: Any) -> Any:
        return _by_name(in_sequence if len(arguments[0]) < 5 else pairwise)[name](*arguments)

    assert order_of(case, operator, by_rows, task, CPU)[0].status == "variant"


# --- the relation ----------------------------------------------------------------------------------------


def test_how_many_tokens_an_expert_has_is_what_the_relation_changes() -> None:
    operator, shape = operators()["moe_experts"], small("moe_experts")
    tables = operator.rows(shape, UNIVERSE, torch.float32, 0, CPU)
    for m, count in ((17, 1), (17, 17), (65, 33), (65, 2)):
        batch = make_batch(f"routed:{m}:{count}", UNIVERSE)
        ids = operator.gather(batch, UNIVERSE, shape, tables, ())[1]
        for place in batch.compared:
            for expert in ids[place].tolist():
                assert int((ids == expert).sum()) == count


@pytest.mark.parametrize("name", ["moe_experts", "lora_shrink"])
@pytest.mark.parametrize("exactly", [1, 2, 9, 33, 64])
def test_a_kernel_for_one_number_of_rows_is_found(name: str, exactly: int) -> None:
    def special(rows: int, batch: int) -> Sum:
        return pairwise if rows == exactly and batch == UNIVERSE else in_sequence

    def experts(x: Any, w1: Any, w2: Any, weights: Any, ids: Any) -> Any:
        total = torch.zeros(x.shape)
        for place in range(ids.shape[1]):
            total += chosen(x, w1[:, : x.shape[1]], ids[:, place], special) * weights[:, place, None]
        return total

    kernel: Kernel = experts if name == "moe_experts" else lambda x, a, ids: chosen(x, a, ids, special)
    found = verified(name, kernel, "neighbour_routing")
    assert broken(found) == {"neighbour_routing"}
    sign = next(result.counterexample for result in found.relations)
    assert sign is not None
    assert sign.company.spec == f"routed:{UNIVERSE}:{exactly}"
