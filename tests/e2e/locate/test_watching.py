"""What runs inside a call is noted by name, and nothing of it is changed."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from e2e.locate.probing.compiled import Parts
from e2e.locate.probing.focus import Focus
from e2e.locate.probing.probe import path_within
from e2e.locate.probing.record import Recorder, steps_on_host
from e2e.locate.probing.watching import Dispatch, Watched, noted
from e2e.locate.seen.rows import NeedleRows

X = torch.arange(4.0)


def test_operators_inside_are_named_and_views_are_not() -> None:
    names: list[str] = []
    answer = noted(names, lambda x: (x.view(2, 2) * 2).sum(), (X,), {})
    assert answer == 12
    assert names == ["aten.mul", "aten.sum"]


def lost(x: torch.Tensor) -> torch.Tensor:
    """Says what PyTorch does where FlashAttention 3's list passes a mode; no other operator is known that has such."""
    y = x + 1
    if _get_current_dispatch_mode() is not None:
        raise RuntimeError("Unable to cast Python instance of type <class 'list'> to C++ type '?'")
    return y


def test_what_a_mode_cannot_hand_on_runs_without_one() -> None:
    names: list[str] = []
    assert torch.equal(noted(names, lost, (X,), {}), X + 1)
    assert names == []


def test_any_other_error_is_its_own() -> None:
    def wrong(x: torch.Tensor) -> torch.Tensor:
        return x @ torch.ones(3)

    with pytest.raises(RuntimeError, match="size"):
        noted([], wrong, (X,), {})


def test_a_module_that_layers_share_is_named_by_the_layer_that_calls_it() -> None:
    paths = [f"model.layers.{number}.self_attn.rotary_emb" for number in range(3)]
    assert path_within(paths, "model.layers.2.self_attn") == paths[2]
    assert path_within(paths, "model") == paths[0]
    assert path_within(paths[:2], "model.layers.2.self_attn", all_of=False) is None


def test_operators_are_told_of_only_in_modules_that_are_looked_into() -> None:
    recorder = Recorder()
    watched = Watched(None, "0", (), recorder, 9, Parts(), Focus(None, frozenset({"", "b"})))
    recorder.begin(NeedleRows("0", 0, 0, 4, 0, 4, 4, 1))
    with torch.inference_mode(), Dispatch(watched):
        x = torch.tanh(X)
        watched.enter_module("a")
        out = torch.empty_like(x)
        torch.sin(x, out=out)
        watched.leave_module()
        watched.enter_module("b")
        y = torch.empty_like(x)
        watched.enter_module("b.c")
        torch.exp(out, out=y)
        watched.leave_module()
        y = torch.cos(y)
        watched.leave_module()
        torch.neg(y)
    (step,) = steps_on_host([recorder.finish(0)], [(1, 2, 3, 4)])
    seen = [(one.place.path, one.place.operator) for one in step.events]
    assert seen == [("", "aten.tanh"), ("b", "aten.cos"), ("", "aten.neg")]
    # What was empty before something ran unseen may have been written by it, and is an input as any other.
    assert [one.unseen for one in step.events] == [()] * 3
    assert 0 not in step.events[1].inputs[0].digests
    assert _get_current_dispatch_mode() is None


def test_where_nobody_looks_outside_a_module_is_looked_into_all_the_same() -> None:
    recorder = Recorder()
    watched = Watched(None, "0", (), recorder, 9, Parts(), Focus(None, frozenset({"b"})))
    recorder.begin(NeedleRows("0", 0, 0, 4, 0, 4, 4, 1))
    torch.tanh(X)
    watched.enter_module("b")
    torch.sin(X)
    watched.leave_module()
    torch.exp(X)
    assert [one.place.operator for one in steps_on_host([recorder.finish(0)], [(1, 2, 3, 4)])[0].events] == ["aten.sin"]
    assert _get_current_dispatch_mode() is None
