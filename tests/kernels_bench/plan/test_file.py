"""A plan's file as others may have left it: taken whole, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernels_bench.plan.file import read_plan
from kernels_bench.plan.record import Price
from kernels_bench.records.manifest import ResultsError
from profiles.errors import ExitStatus
from support.plans import case, plan
from support.processes import kernels_bench

ROOT = Path(__file__).parents[3]
Edit = Callable[[dict[str, Any]], object]

TWO = case((1, "few"), (17, "many[16x2]"), also=["others"])
PRICED = TWO.model_copy(
    update={"prices": (Price(m=1, state="cold", arm="few", planned_us=1.0, default_us=2.0, error=0.1),)}
)


def edited(place: Path, edit: Edit) -> Path:
    """A plan's file in which somebody has changed its case."""
    told = json.loads(plan(PRICED).model_dump_json())
    edit(told)
    place.write_text(json.dumps(told))
    return place


def on_case(**fields: Any) -> Edit:
    return lambda told: told["cases"][0].update(fields)


def on_class(**fields: Any) -> Edit:
    return lambda told: told["cases"][0]["chosen"].update(fields)


def ranges(*all_of_them: tuple[int, int | None, str]) -> Edit:
    return on_case(stretches=[{"first": first, "last": last, "arm": arm} for first, last, arm in all_of_them])


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_plan(edited(tmp_path / "plan.json", lambda told: None)) == plan(PRICED)


@pytest.mark.parametrize("file", sorted((ROOT / "profiles" / "plans").glob("*/plan*.json")), ids=lambda one: one.stem)
def test_the_plans_that_are_kept_are_read(file: Path) -> None:
    assert read_plan(file).cases


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (ranges((1, 8, "few"), (17, None, "few")), "gap or overlap: from 1 up to M=8, then from M=17 on"),
        (ranges((1, 32, "few"), (17, None, "few")), "gap or overlap: from 1 up to M=32, then from M=17 on"),
        (ranges((1, None, "few"), (17, None, "few")), "gap or overlap: from 1 without an end, then from M=17 on"),
        (ranges((1, 0, "few"), (1, None, "few")), "stretches.0.last: Input should be greater than or equal to 1"),
        (ranges((-5, None, "few")), "stretches.0.first: Input should be greater than or equal to 1"),
        (ranges((2, None, "few")), "do not go from 1 on without an end"),
        (ranges((1, 16, "few")), "do not go from 1 on without an end"),
        (ranges(), "do not go from 1 on without an end"),
        (ranges((1, None, "torch")), "torch is not of the class few, many[16x2], others, whose bits are known"),
        (on_case(steady="torch"), "torch is not of the class"),
        (on_case(steady=""), "no kernel is not of the class"),
        (on_case(chosen=None), "no class that their kernels are of"),
        (on_case(apart=["other bits"]), "0 other classes, and 1 reasons for them"),
        (on_case(mean=-1.0), "cases.0.mean: Input should be greater than 0"),
        (on_case(mean="Infinity"), "cases.0.mean"),
        (on_case(precision={"input": "fp7", "output": "fp7"}), "dtype fp7 is unknown"),
        (on_case(shape={"label": "x", "k": 8, "n": -1}), "-1x8 is no shape"),
        (lambda told: told["cases"][0]["prices"][0].update(default_us=0), "prices.0.default_us"),
        (lambda told: told["cases"][0]["prices"][0].update(arm="others"), "the price at M=1 is of others"),
        (on_class(digests={}), "sizes are not the M of its digests"),
        (on_class(sizes=[], digests={}), "chosen.sizes"),
        (on_class(arms=[]), "chosen.arms"),
        (on_class(arms=["few", "[x]"]), "'[x]' is no kernel's name: expected ARM, or ARM[LABEL]"),
        (on_class(arms=["few", "many["]), "'many[' is no kernel's name"),
        (on_class(arms=["few", "many[*]"]), "'many[*]' is no kernel's name"),
        (on_class(arms=["few", "many[a[b]]"]), "'many[a[b]]' is no kernel's name"),
        (on_class(arms=["few", "many\x1b[31m"]), "is no kernel's name"),
        (lambda told: told.update(cases=[]), "cases"),
        (lambda told: told.update(cases=told["cases"] * 2), "it has linear/4096x4096/bf16 twice"),
        (lambda told: told.update(weights={}), "weights"),
        (lambda told: told.update(schema_version=99), "schema_version"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(tmp_path: Path, edit: Edit, said: str) -> None:
    with pytest.raises(ResultsError) as refused:
        read_plan(edited(tmp_path / "plan.json", edit))
    message = str(refused.value)
    assert said in message
    assert message.startswith(f"{tmp_path / 'plan.json'} is no plan: ")
    assert "Value error" not in message
    assert refused.value.status == ExitStatus.USAGE


@pytest.mark.parametrize("content", [b"", b"[]", b"\0" * 9, b"\xff\xfe", b"[" * 100_000, b'{"schema_version": 1'])
def test_what_is_no_plan_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "plan.json"
    file.write_bytes(content)
    with pytest.raises(ResultsError, match="is no plan: the file: "):
        read_plan(file)


def test_a_file_of_another_kind_is_told_what_it_lacks() -> None:
    with pytest.raises(ResultsError, match=r"is no plan: run: Field required; make one with"):
        read_plan(ROOT / "profiles" / "plans" / "nvidia-h200-qwen3-8b" / "run.json")


@pytest.mark.parametrize("command", ["show", "check", "export"])
def test_no_command_takes_it(tmp_path: Path, command: str) -> None:
    # An arm outside of the class: its bits are others, and `check` would look at the class's alone.
    file = edited(tmp_path / "plan.json", ranges((1, None, "torch")))
    done = kernels_bench("plan", command, file)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert "torch is not of the class" in done.err
