"""What is set around a call, and that nothing of it is left."""

import pytest
import torch

from kernels_bench.records.cases import Launch
from kernels_bench.relations.surroundings import AROUND
from kernels_bench.verification.subject.surroundings import compiling_nothing, set_around


def state() -> dict[Launch, object]:
    return {
        "inference": torch.is_inference_mode_enabled(),
        "gradients": torch.is_grad_enabled(),
        "default_dtype": torch.get_default_dtype(),
    }


def failing_within(form: Launch, seen: dict[Launch, object]) -> None:
    with set_around(form):
        seen |= state()
        raise ZeroDivisionError


@pytest.mark.parametrize("form", AROUND)
@pytest.mark.parametrize("gradients", [False, True])
def test_one_thing_is_set_otherwise_and_put_back_whatever_happens(form: Launch, gradients: bool) -> None:
    with torch.set_grad_enabled(gradients):
        usual, within = state(), state()
        with pytest.raises(ZeroDivisionError):
            failing_within(form, within)
        assert state() == usual
    other = {name for name in AROUND if within[name] != usual[name]}
    # Of tensors that are made in inference mode there are no gradients.
    assert other - ({"gradients"} if form == "inference" else set()) == {form}


def test_of_another_form_nothing_is_set() -> None:
    usual = state()
    with set_around("view"):
        assert state() == usual


def test_nothing_is_compiled_anew() -> None:
    twice = torch.compile(lambda x: x * 2, backend="eager")
    ones = torch.ones(3)
    twice(ones)
    with compiling_nothing():
        assert twice(ones).tolist() == [2, 2, 2]
        with torch.inference_mode(), pytest.raises(RuntimeError, match="recompile"):
            twice(torch.ones(3))
    with torch.inference_mode():
        assert twice(torch.ones(3)).tolist() == [2, 2, 2]
