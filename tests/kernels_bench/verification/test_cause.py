"""What a difference depends on: the batch, the calls before it, or chance; and whose door it is laid at."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults import faults
from kernels_bench.records.cases import Claims
from kernels_bench.records.results import RelationResult, Verification
from kernels_bench.relations import Comparison, Setting, make_batch, relations
from kernels_bench.relations.base import sweep
from kernels_bench.report.summary.findings_text import describe
from kernels_bench.verification import cause
from kernels_bench.verification.cause import DEPENDS_ON_CALLS, Cause, Pair, cause_of
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.verifier import Verifier
from support import PLUGINS
from support.processes import kernels_bench
from support.products import product, subject

UNIVERSE = 32


def by_rows(a: Tensor, b: Tensor) -> Tensor:
    return product(a, b, splits=4 if len(a) < UNIVERSE else 1)


def after_other_calls() -> Kernel:
    """Adds in other parts where the call before had another number of rows."""
    last = 0

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        nonlocal last
        before, last = last, len(a)
        return product(a, b, splits=4 if before > len(a) else 1)

    return kernel


def at_random(a: Tensor, b: Tensor) -> Tensor:
    return product(a, b, order=torch.randperm(a.shape[1]))


def in_one_call_of(calls: int, other: int) -> Callable[[], Kernel]:
    """Makes a kernel that adds in other parts in the call of that number among so many."""

    def make() -> Kernel:
        made = count()
        return lambda a, b: product(a, b, splits=4 if next(made) % calls == other else 1)

    return make


MADE: list[tuple[str, Callable[[], Kernel], Cause]] = [
    ("another order below some M", lambda: by_rows, "batch"),
    ("another order after a larger batch", after_other_calls, "calls"),
    ("a random order", lambda: at_random, "chance"),
    ("another order in one call of 23", in_one_call_of(23, 22), "chance"),
    ("the same order always", lambda: product, "once"),
]


@pytest.mark.parametrize(("make", "found"), [made[1:] for made in MADE], ids=[made[0] for made in MADE])
def test_what_a_difference_depends_on_is_found_out(
    make: Callable[[], Kernel], found: Cause, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cause, "OFTEN", 40)
    under_test = subject(make(), universe=UNIVERSE)

    def rows_of(spec: str) -> Callable[[], tuple[Tensor, ...]]:
        return lambda: (under_test.start(make_batch(spec, UNIVERSE)).outputs[0][:5],)

    assert cause_of(Pair(reference=rows_of(f"first:{UNIVERSE}"), company=rows_of("first:5"))) == found


def examined(
    under_test: KernelUnderTest, *names: str, claims: Claims = True, plugin: str | None = None
) -> tuple[Verification, dict[str, RelationResult]]:
    setting = Setting(UNIVERSE, sweep(UNIVERSE))
    chosen = [relation for name, relation in relations().items() if name in names]
    verifier = Verifier(under_test, seed=0, plugin=plugin, claims=claims)
    found = verifier.verify(chosen, setting, digest_sizes=())
    return found, {result.relation: result for result in found.relations}


@pytest.mark.parametrize("claims", [True, False])
def test_a_first_call_that_differs_is_laid_at_historys_door_though_nobody_asked_it(claims: bool) -> None:
    found, results = examined(subject(faults()["first_call"].make(), universe=UNIVERSE), "repeat", claims=claims)
    assert {name: result.status for name, result in results.items()} == {"repeat": "inconclusive", "history": "broken"}
    assert results["repeat"].reason == DEPENDS_ON_CALLS
    assert (found.verdict, results["history"].binding) == ("variant", True)
    told = results["history"].counterexample
    assert told is not None
    assert (told.before, told.reference.spec, told.company.spec) == ((), f"first:{UNIVERSE}", f"first:{UNIVERSE}")
    assert "differs at M=32 in the first call of the process vs in a later one" in describe(told)


def test_what_changes_for_good_after_some_calls_is_seen_by_the_last_of_them() -> None:
    calls = count()
    found, results = examined(
        subject(lambda a, b: product(a, b, splits=4 if next(calls) > 12 else 1), universe=UNIVERSE), "repeat"
    )
    assert found.verdict == "variant"
    assert "broken" in {result.status for result in results.values()}


@pytest.mark.parametrize(("claims", "verdict"), [(True, "variant"), (("history",), "variant"), (False, "sampled")])
def test_what_an_arm_leaves_to_its_callers_makes_no_verdict_unless_it_is_claimed(claims: Claims, verdict: str) -> None:
    after_a_larger = faults()["after_a_larger_batch"].make()
    found, results = examined(subject(after_a_larger, universe=UNIVERSE), "repeat", "history", claims=claims)
    assert {name: result.status for name, result in results.items()} == {"repeat": "held", "history": "broken"}
    assert results["history"].binding == (claims is not False)
    assert found.verdict == verdict
    told = results["history"].counterexample
    assert told is not None
    assert told.before == (f"first:{UNIVERSE}",)
    assert "right after M=32 vs after other calls" in describe(told)


@pytest.mark.parametrize(("claims", "verdict"), [(True, "sampled"), (("surroundings",), "variant")])
def test_what_comes_by_chance_where_something_is_set_is_laid_at_no_other_door(claims: Claims, verdict: str) -> None:
    calls = count()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        by_chance = torch.is_inference_mode_enabled() and next(calls) % 2 == 0
        return product(a, b, splits=4 if by_chance else 1)

    found, results = examined(subject(kernel, universe=UNIVERSE), "repeat", "surroundings", claims=claims)
    assert {name: result.status for name, result in results.items()} == {"repeat": "held", "surroundings": "broken"}
    assert found.verdict == verdict  # it is claimed by its name alone


def test_what_another_relation_met_counts_though_history_is_left_to_the_callers() -> None:
    """Batches of special values are compared with a smaller one: of rows as they come, with nothing called between."""
    after_a_larger = faults()["after_a_larger_batch"].make()
    names = ("repeat", "special_values", "history")
    found, results = examined(subject(after_a_larger, universe=UNIVERSE), *names, claims=False)
    assert results["special_values"].status == "inconclusive"
    assert results["special_values"].reason == DEPENDS_ON_CALLS
    assert (results["history"].status, results["history"].binding) == ("broken", True)
    assert found.verdict == "variant"


def test_views_that_are_left_to_the_callers_make_no_verdict() -> None:
    def of_whole_rows_alone(a: Tensor, b: Tensor) -> Tensor:
        return product(a, b, splits=1 if a.is_contiguous() else 4)

    for claims, verdict in ((True, "variant"), (False, "sampled")):
        found, results = examined(subject(of_whole_rows_alone, universe=UNIVERSE), "repeat", "layout", claims=claims)
        assert (results["layout"].status, found.verdict) == ("broken", verdict)
        assert found.counterexample is not None
        assert found.counterexample.company.launch == "view"


def test_rows_that_a_kernel_does_not_take_are_no_fault_of_it() -> None:
    def of_whole_rows_alone(a: Tensor, b: Tensor) -> Tensor:
        if not a.is_contiguous():
            raise ValueError("rows must follow each other")
        return product(a, b)

    found, results = examined(subject(of_whole_rows_alone, universe=UNIVERSE), "repeat", "layout")
    assert (results["layout"].status, found.verdict) == ("unsupported", "sampled")
    assert results["layout"].reason == "does not take such rows: rows must follow each other"


def test_weights_that_are_kept_are_seen_once_they_are_written_anew() -> None:
    found, results = examined(subject(faults()["packed_weights"].make(), universe=UNIVERSE), "repeat", "history")
    assert (results["history"].status, found.verdict) == ("broken", "variant")
    told = found.counterexample
    assert told is not None
    assert told.company.launch == "updated"
    assert "with weights that were written over earlier ones vs the same weights elsewhere" in describe(told)
    alone = Verifier(subject(faults()["packed_weights"].make(), universe=UNIVERSE), seed=0)
    assert alone.compare(Comparison(told.reference.spec, told.company.spec, "updated"), "history") == told


def test_a_kernel_that_ignores_its_weights_is_wrong_and_all_else_of_it_is_told() -> None:
    kept: list[Tensor] = []

    def first_weights(a: Tensor, b: Tensor) -> Tensor:
        kept.append(b.clone())
        return product(a, kept[0])

    found, results = examined(subject(first_weights, universe=UNIVERSE), "repeat", "history")
    assert found.verdict == "wrong"
    assert found.wrong.startswith("gives the same result with other weights, as with those of an earlier call")
    assert (results["repeat"].status, results["history"].status) == ("held", "failed")
    zeros, _ = examined(subject(lambda a, b: torch.zeros(len(a), b.shape[1]), universe=UNIVERSE), "repeat", "history")
    assert "where float64 gives" in zeros.wrong


@pytest.mark.parametrize(("name", "before"), [("first_call", "nothing"), ("after_a_larger_batch", f"first:{UNIVERSE}")])
def test_what_depends_on_calls_is_made_again_in_a_process_of_its_own(name: str, before: str) -> None:
    plugin = str(PLUGINS / f"{name}.py")
    assert Path(plugin).is_file()
    under_test = subject(faults()[name].make(), universe=UNIVERSE)
    _, results = examined(under_test, "repeat", "history", plugin=plugin)
    told = results["history"].counterexample
    assert told is not None
    words = shlex.split(told.command)
    assert words[words.index("--before") + 1] == before
    ended = kernels_bench(*words[3:])
    assert ended.status == 1, ended.err
    for pattern in (told.expected_bits, told.got_bits, f"{told.rows} of {told.rows_compared} rows differ"):
        assert pattern in ended.out
