"""Operators that engines run beside GEMMs, norms and attention: right kernels pass, and wrong ones do not."""

from typing import Any

import pytest
import torch
from _pytest.mark.structures import ParameterSet

from kernels_bench import check
from kernels_bench.arms import Kernel
from kernels_bench.arms.pytorch.default import KERNELS
from kernels_bench.arms.samebits import DELTA, FP8, STATE, kernels
from kernels_bench.arms.samebits.tiles import ATTENTION
from kernels_bench.operators import Operator, operators
from kernels_bench.order.batch_sweep import Task
from kernels_bench.order.case_order import order_of
from kernels_bench.records.cases import Case, Precision, Shape
from support import routed_cases

CPU = torch.device("cpu")
LAYERS = {
    name: operator
    for name, operator in operators().items()
    if "cpu" in operator.by_request and operator.family != "ranks"  # whose processes are seen in ranks/test_ranks.py
}
JUDGED = [name for name, operator in LAYERS.items() if operator.has_reference]
FIRST_ARE_ROWS = ("activation", "rotary", "norms", "sampling")
ROW_BY_ROW = [name for name, operator in LAYERS.items() if operator.family in FIRST_ARE_ROWS]
"""Those whose tensors of rows are a kernel's first arguments, as they are; other families have their own tests."""


def small(operator: Operator) -> list[Shape]:
    return [shape for shape in operator.shapes if shape.label.startswith("small/")]


def examined(kernel: Kernel, name: str, **more: Any) -> Any:
    operator = LAYERS[name]
    more = {"shapes": small(operator)[-1].token, "dtypes": operator.precisions[0]} | more
    return check(kernel, name, budget_s=0.1, **more)


def told(report: Any) -> set[str]:
    return {one.verdict for one in report.verifications}


def test_each_has_small_shapes_real_ones_and_no_place_in_a_default_run() -> None:
    for name, operator in LAYERS.items():
        assert small(operator), name
        assert any(not shape.invented for shape in operator.shapes), name
        assert operator.by_request == ("cuda", "cpu"), name
        assert not operator.own, name
        assert operator.quick, name


def layers_here(*here_too: str) -> list[ParameterSet]:
    """The same is asked of other families with more data in tests of their own, such as test_fp8.py."""
    apart = {*FP8, *STATE, *DELTA, *ATTENTION, "mla_prefill", *routed_cases.SHAPES} - {*here_too}
    return [pytest.param(name, marks=[pytest.mark.long] if name in apart else []) for name in LAYERS]


@pytest.mark.parametrize("name", layers_here("scaled_mm_token", "fp8_quant_tensor", "moe_sum", "state_update"))
def test_torch_is_right(name: str) -> None:
    """It claims nothing, and some of its kernels vary; none is wrong."""
    for precision in LAYERS[name].precisions:
        report = examined(KERNELS[name], name, dtypes=precision, claims=())
        assert report.judged == (name in JUDGED)
        # Some dtypes torch has on a GPU alone.
        expected = {"defined"} if LAYERS[name].depends_on_batch else {"sampled", "variant", "unsupported"}
        assert told(report) <= expected, report.summary()


@pytest.mark.parametrize("name", layers_here())
def test_samebits_keeps_its_bits(name: str) -> None:
    report = examined(kernels()[name], name)
    assert report.held, report.summary()


def _spoilt(result: Any, place: int) -> Any:
    """One of several results with a hundredth of it added, or, of whole numbers, each by one larger."""
    results = list(result) if isinstance(result, tuple | list) else [result]
    chosen = results[place]
    results[place] = chosen + 1 if not chosen.is_floating_point() else (chosen.double() * 1.1).to(chosen.dtype)
    return tuple(results) if len(results) > 1 else results[0]


@pytest.mark.parametrize("name", [name for name in ROW_BY_ROW if name in JUDGED])
def test_a_wrong_kernel_is_called_wrong(name: str) -> None:
    shape = small(LAYERS[name])[-1]
    for place in range(len(LAYERS[name].result_shapes(shape, 1))):
        spoilt: Kernel = lambda *given, place=place: _spoilt(KERNELS[name](*given), place)  # noqa: E731
        report = examined(spoilt, name, claims=(), relations="repeat")
        assert told(report) == {"wrong"}, (place, report.summary())


def _last_row_alone(kernel: Kernel, name: str) -> Kernel:
    """The same, but for the last row of a batch of more than 16: it is computed from its neighbour's inputs."""
    per_row = len(LAYERS[name].rows(small(LAYERS[name])[-1], 1, torch.float32, 0, CPU))

    def mixed(*given: Any) -> Any:
        tensors = [one for one in given if isinstance(one, torch.Tensor)][:per_row]
        m = len(tensors[0])
        if m <= 16:
            return kernel(*given)
        order = torch.arange(m)
        order[-1] = m - 2
        return kernel(*(one[order] if any(one is row for row in tensors) else one for one in given))

    return mixed


@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_a_row_that_takes_from_its_neighbour_is_seen(name: str) -> None:
    report = examined(_last_row_alone(kernels()[name], name), name, relations="batch_size")
    assert told(report) & {"variant", "wrong"}, report.summary()


SUMS = [name for name in ROW_BY_ROW if LAYERS[name].probe_sum_count(small(LAYERS[name])[-1], 4)]


@pytest.mark.parametrize("name", SUMS)
def test_the_order_of_addition_is_read_and_is_the_same_at_every_m(name: str) -> None:
    operator, shape = LAYERS[name], small(LAYERS[name])[-1]
    case = Case(arm="samebits", operator=name, shape=shape, precision=Precision.parse("fp32"))
    task = Task(sizes=(1, 4, 17))
    order, _ = order_of(case, operator.for_shape(shape), kernels()[name], task, CPU)
    assert order.status == "proven", order.reason
    assert len(order.found) == 1


def test_a_rotary_embedding_keeps_lengths_and_turns_by_the_angle_of_the_position() -> None:
    operator = LAYERS["rotary"]
    shape = Shape.of("test", {"heads": 1, "kv_heads": 1, "head_dim": 2, "positions": 8})
    angles = torch.arange(8, dtype=torch.float64) * 0.3
    table = torch.stack([angles.cos(), angles.sin()], 1)
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]], dtype=torch.float64)
    ids = torch.tensor([0, 2, 7])
    turned, _ = operator.for_shape(shape).reference((ids, x, x), (table,))
    assert torch.allclose(turned.norm(dim=1), x.norm(dim=1))
    assert torch.equal(turned[0], x[0])
    assert torch.allclose(turned[1], torch.stack([-(angles[2].sin()), angles[2].cos()]))
