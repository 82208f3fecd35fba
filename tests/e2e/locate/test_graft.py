"""Operators are seen as they run, an equal output is put back, and what is only looked at stays what it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from e2e.locate.judging.align import match
from e2e.locate.judging.graft import Comparer, Keeper
from e2e.locate.judging.walk import first, places, walk
from e2e.locate.probing import record
from e2e.locate.probing.compiled import Parts
from e2e.locate.probing.record import Call, Recorder, steps_on_host
from e2e.locate.probing.watching import Dispatch
from e2e.locate.seen.digest import RawRows, digests_of
from e2e.locate.seen.rows import NeedleRows, RowsError, check_rows, found_at, needle_rows
from e2e.locate.seen.trace import Step

WIDTH = 16
WEIGHT = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(1))


@torch.library.custom_op("tested::larger", mutates_args=())
def larger(x: torch.Tensor) -> torch.Tensor:
    """Other bits in more than 8 rows."""
    return x + (2.0**-10 if len(x) > 8 else 0.0)


@torch.library.custom_op("tested::doubled_", mutates_args=("x",))
def doubled_(x: torch.Tensor) -> None:
    """In place; other bits in more than 8 rows."""
    x.mul_(2.0 if len(x) <= 8 else 2.0 + 2.0**-10)


@torch.library.custom_op("tested::summed_into", mutates_args=("out",))
def summed_into(out: torch.Tensor, x: torch.Tensor) -> None:
    """Into memory that the caller has made."""
    out.copy_(x + 1)


def model(x: torch.Tensor) -> torch.Tensor:
    x = torch.tanh(x)
    x = torch.ops.tested.larger(x)
    out = torch.empty_like(x)
    torch.ops.tested.summed_into(out, x)
    out = out.view(-1, WIDTH)
    torch.ops.tested.doubled_(out)
    return out * 3


def watched(recorder: Recorder, offset: int, tokens: int, x: torch.Tensor, run: Callable[..., Any] = model) -> Any:
    """One step whose rows from ``offset`` are the needle's, which has 4."""
    recorder.begin(NeedleRows("0", 0, offset, 4, 0, tokens, tokens, 1 + tokens))
    around: Any = SimpleNamespace(recorder=recorder, on=True, path=["m"], parts=Parts())
    with torch.inference_mode(), Dispatch(around):
        out = run(x)
    return out, steps_on_host([recorder.finish(0)], [(1, 2, 3, 4)])[0]


@pytest.fixture
def needle() -> torch.Tensor:
    return torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def company(needle: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.ones(3, WIDTH), needle, torch.ones(5, WIDTH)])


def found(alone: Step, seen: Step) -> list[str]:
    return [one.operator for one in places(list(walk(match([alone], [seen]))))]


def test_watching_changes_nothing(needle: torch.Tensor, company: torch.Tensor) -> None:
    for recorder in (Recorder(), Keeper(1 << 20), Comparer({})):
        out, _ = watched(recorder, 3, 12, company)
        assert torch.equal(out, model(company))
    assert torch.equal(watched(Recorder(), 0, 4, needle)[0], model(needle))


def test_the_first_cause_is_seen_and_what_follows_from_it_is_not_accused(
    needle: torch.Tensor, company: torch.Tensor
) -> None:
    _, alone = watched(Recorder(), 0, 4, needle)
    _, seen = watched(Recorder(), 3, 12, company)
    assert found(alone, seen) == ["tested.larger"]
    verdict = first(list(walk(match([alone], [seen]))))
    assert verdict is not None
    assert verdict.guilty.tolist() == [True] * 4
    # Memory that nothing had written is no input, whatever lay there.
    assert [len(one.inputs) for one in alone.events if one.place.operator == "tested.summed_into"] == [2]


def test_all_independent_causes_are_found_once_each_is_put_right(needle: torch.Tensor, company: torch.Tensor) -> None:
    keeper = Keeper(1 << 20)
    expected, alone = watched(keeper, 0, 4, needle)
    comparer = Comparer(keeper.kept, put=True)
    out, seen = watched(comparer, 3, 12, company)
    assert found(alone, seen) == ["tested.larger", "tested.doubled_"]
    assert torch.equal(out[3:7], expected)
    assert not torch.equal(model(company)[3:7], expected)
    assert torch.equal(out[:3], model(company)[:3]), "only the needle's rows are put right"
    (apart,) = comparer.apart[0, seen.events[1].place]
    assert apart.numbers()[0] == [WIDTH] * 4


def test_without_room_nothing_is_kept_and_that_is_known(needle: torch.Tensor) -> None:
    keeper = Keeper(3 * 4 * WIDTH * 4)
    watched(keeper, 0, 4, needle)
    assert keeper.full


def test_memory_that_something_unseen_has_written_is_said_to_be(needle: torch.Tensor) -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x)
        out.numpy()[:] = x.numpy()  # as a kernel does that is launched past PyTorch
        return out + 1

    _, step = watched(Recorder(), 0, 4, needle, run)
    (add,) = [one for one in step.events if one.place.operator == "aten.add"]
    assert add.unseen == ("something that is no operator of PyTorch's wrote what it takes",)


def test_the_needles_rows_are_found_by_request_and_position() -> None:
    batch: Any = SimpleNamespace(req_ids=["7-ab", "0-cd", "3-ef"], num_computed_tokens_cpu=[4, 2, 0])
    plan: Any = SimpleNamespace(num_scheduled_tokens={"7-ab": 1, "0-cd": 2, "3-ef": 5})
    rows = needle_rows(batch, plan, "0-cd", 16)
    assert rows == NeedleRows("0-cd", 1, 1, 2, 2, 8, 16, 3)
    assert needle_rows(batch, plan, "9-zz", 16) is None
    positions = torch.tensor([4, 2, 3, 0, 1, 2, 3, 4])
    tokens = torch.arange(50, 58)
    assert check_rows(rows, found_at(rows, positions, tokens), (0, 0, 51)) == (51, 52)
    for wrong in ((positions + 1, tokens), (positions, tokens + 1)):
        with pytest.raises(RowsError, match="another sequence than the needle"):
            check_rows(rows, found_at(rows, *wrong), (0, 0, 51))


def test_what_a_tensors_rows_are() -> None:
    rows = NeedleRows("0", 1, 2, 3, 0, 9, 16, 4)
    assert [rows.space(shape) for shape in ((9, 2), (16,), (4, 7), (5, 9), ())] == [
        "token", "token", "sequence", "whole", "whole",
    ]  # fmt: skip
    assert rows.slice_of("token") == slice(2, 5)
    assert rows.slice_of("sequence") == slice(1, 2)


def test_beside_a_gpu_what_lies_in_main_memory_is_bookkeeping() -> None:
    recorder = Recorder()
    assert recorder.concerns(torch.ones(3))
    recorder.device = "cuda"
    assert not recorder.concerns(torch.ones(3))  # a copy from the GPU may still be under way
    assert recorder.concerns(torch.tensor(2.0))  # a number that an operator on the GPU may be given
    recorder.device = "cpu"
    weight = torch.ones(3)
    recorder.shared = frozenset({weight.untyped_storage().data_ptr()})
    assert not recorder.concerns(weight)
    assert not recorder.concerns(torch.ones(0))


LIBRARY = torch.library.Library("tested_silently", "DEF")
LIBRARY.define("written(Tensor x) -> Tensor")


def _silently(x: torch.Tensor) -> torch.Tensor:
    before = x.clone()
    if len(x) > 8:
        x.add_(2.0**-10)
    return before


LIBRARY.impl("written", _silently, "CPU")


def test_what_an_operator_writes_against_its_word_is_no_fault_of_the_next(
    needle: torch.Tensor, company: torch.Tensor
) -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(x)
        torch.ops.tested_silently.written(y)
        return y * 3

    keeper = Keeper(1 << 30)
    _, alone = watched(keeper, 0, 4, needle, run)
    comparer = Comparer(keeper.kept)
    _, beside = watched(comparer, 3, 12, company, run)
    assert not places(list(walk(match([alone], [beside]))))


def test_what_is_read_twice_is_digested_once(needle: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(parts: Sequence[RawRows]) -> list[Any]:
        read.append(len(parts))
        return digests_of(parts)

    monkeypatch.setattr(record, "digests_of", counted)
    watched(Recorder(), 0, 4, needle, lambda x: torch.tanh(torch.sin(torch.exp(x))))
    assert read == [4]  # what went in, and what came of each: at once


def test_copies_that_take_much_room_are_digested_early(needle: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    _, expected = watched(Recorder(), 0, 4, needle)
    monkeypatch.setattr(record, "_STAGED", 1)
    _, step = watched(Recorder(), 0, 4, needle)
    pairs = zip(expected.events, step.events, strict=True)
    for one, other in ((a, b) for x, y in pairs for a, b in zip(x.outputs, y.outputs, strict=True)):
        assert one.digests.tolist() == other.digests.tolist()


@pytest.mark.parametrize("given", [0.0, 1.0])
def test_what_was_given_other_rows_before_is_not_put_right_even_if_nothing_came_of_it(given: float) -> None:
    x, y = torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(4))

    def steps(recorder: Recorder, taken: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        given_out: list[torch.Tensor] = [y.clone(), last.clone()]
        for at, (one, out) in enumerate(zip((taken, x), given_out, strict=True)):
            recorder.begin(NeedleRows("0", 0, 0, 4, 4 * at, 4, 4, 1))
            call = Call(recorder.place("layer", ""), "module", recorder.held([one]), True)
            recorder.leave(call, [out])
            recorder.finish(at)
        return given_out[-1]

    keeper = Keeper(1 << 20)
    steps(keeper, x, y)
    out = steps(Comparer(keeper.kept, put=True), x + given, y + 2)
    assert torch.equal(out, y + 2 if given else y)
