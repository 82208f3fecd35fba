"""What a part of a compiled model is to the probe."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch

from e2e.locate.judging.graft import Keeper
from e2e.locate.probing.compiled import COMPILED, Parts, only_of, sealed_in
from e2e.locate.probing.record import steps_on_host
from e2e.locate.seen.rows import NeedleRows

CUT = ("m.0.attn", "m.1.attn")


def watching(recorder: Keeper, parts: Parts) -> Any:
    return SimpleNamespace(recorder=recorder, on=True, path=["", "m"], parts=parts)


def begun(parts: Parts) -> Any:
    recorder = Keeper(1 << 20)
    recorder.begin(NeedleRows("0", 0, 1, 2, 0, 4, 4, 1))
    parts.begin()
    return watching(recorder, parts)


def test_parts_are_called_by_the_attention_that_is_before_and_after_them() -> None:
    parts = Parts((*CUT, "draft.attn"), frozenset({"m"}))
    assert parts.cut == list(CUT)
    around = begun(parts)
    names = [parts.name]
    for layer in CUT:
        parts.attention_begins(layer, None, around.recorder)
        names.append(parts.name)
    assert names == [
        "compiled part to m.0.attn",
        "compiled part from m.0.attn to m.1.attn",
        "compiled part from m.1.attn",
    ]
    parts.begin()
    assert parts.name == names[0]


def test_memory_that_attention_is_to_write_is_no_result_of_the_part_that_made_it() -> None:
    """What stands there is of an earlier step or batch; in every later step and pass it is left out from the start."""
    unwritten: dict[str, frozenset[int]] = {}
    made, empty = torch.ones(4, 3), torch.full((4, 2), 7.0)

    def part(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return made + x, empty

    for _ in range(2):
        parts = Parts(CUT, frozenset({"m"}), unwritten)
        around = begun(parts)
        parts.run(around, part, (torch.ones(4, 3),), {})
        parts.attention_begins(CUT[0], empty.view(4, 1, 2), around.recorder)
        (event,) = steps_on_host([around.recorder.finish(0)], [(1, 2)])[0].events
        assert [one.shape for one in event.inputs] == [(4, 3)]
        assert [one.shape for one in event.outputs] == [(4, 3)]
        ((kept,),) = around.recorder.kept.values()
        assert [one.shape for one in kept.outputs] == [(2, 3)]
        assert unwritten == {"compiled part to m.0.attn": frozenset({1})}


def test_what_a_part_calls_in_turn_is_the_same_part() -> None:
    parts = Parts(CUT, frozenset({"m"}))
    around = begun(parts)
    inner = partial(parts.run, around, torch.neg)
    parts.run(around, lambda x: inner((x,), {}), (torch.ones(4, 3),), {})
    (event,) = steps_on_host([around.recorder.finish(0)], [(1, 2)])[0].events
    assert event.kind == "compiled"
    assert event.unseen == (COMPILED,)


class Called:
    """Something that is called."""

    do_not_compile = False

    def __call__(self, x: int) -> int:
        return x


def test_of_a_class_one_instance_alone_is_watched() -> None:
    seen: list[int] = []

    def told(inner: Any) -> Any:
        def call(x: int) -> int:
            seen.append(x)
            return int(inner(x))

        return call

    mine, other = Called(), Called()
    call = only_of(mine, told)(Called.__call__)
    assert (call(mine, 3), call(other, 4)) == (3, 4)
    assert seen == [3]


def test_what_is_called_in_compiled_form_says_so_itself() -> None:
    eager = SimpleNamespace(do_not_compile=True)
    compiled = Called()
    assert sealed_in({id(eager): ["a"]}) == {}
    assert sealed_in({compiled: ["model"], object(): ["other"]}) == {compiled: ["model"]}
