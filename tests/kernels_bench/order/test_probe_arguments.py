"""What is asked of a kernel has the form of what is verified."""

from __future__ import annotations

import math
from typing import NoReturn

import pytest
import torch

from kernels_bench.operators import Operator, operators
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.relations import make_batch
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest


class Seen(Exception):  # noqa: N818 - it ends a launch before there is a result
    """What a kernel was given."""


def form_of(argument: object) -> object:
    """What of an argument a kernel may choose its code by; a cache's number of pages is none of that."""
    if isinstance(argument, tuple):
        return tuple(map(form_of, argument))
    if not isinstance(argument, torch.Tensor):
        return type(argument)
    pages = argument.dim() in (3, 4) and argument.dtype.is_floating_point
    return argument.dtype, tuple(argument.shape)[int(pages) :], argument.stride()


def looks(*arguments: object) -> NoReturn:
    raise Seen(tuple(map(form_of, arguments)), len(arguments[0]))  # type: ignore[arg-type]


def smallest(operator: Operator) -> Shape:
    return min(operator.shapes, key=lambda one: (one.k * (one.n or 1), math.prod(size for _, size in one.sizes)))


def is_asked(operator: Operator) -> bool:
    return operator.for_probing(129, "flat").probe_sum_count(smallest(operator), 17) > 0


@pytest.mark.parametrize("name", sorted(name for name, one in operators().items() if is_asked(one)))
@pytest.mark.parametrize("m", [1, 2, 17])
def test_what_is_asked_has_the_form_of_what_is_verified(name: str, m: int) -> None:
    """A proof of another layout would be a proof of another kernel."""
    operator = operators()[name]
    length = 129 if operator.rows_are in ("sequences", "prefills") else None
    shape = smallest(operator)
    operator = operator.for_length(length)
    case = Case(arm="planted", operator=name, shape=shape, precision=Precision.parse("bf16"))
    subject = KernelUnderTest(case, operator, looks, seed=0, universe=32, device=torch.device("cpu"))
    with pytest.raises(Seen) as verified:
        subject.run(make_batch(f"first:{m}", 32))
    asked = operators()[name].for_probing(length, "flat").for_shape(shape)
    terms = torch.ones(asked.probe_sum_count(shape, m), asked.probe_terms(shape), dtype=torch.bfloat16)
    with pytest.raises(Seen) as probed:
        looks(*asked.probe_arguments(*asked.probe_inputs(terms, shape, m)))
    assert probed.value.args == verified.value.args
