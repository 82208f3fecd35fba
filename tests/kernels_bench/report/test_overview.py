"""A run on one screen: what stands there, what is left out, and that it fits."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from kernels_bench.records.cases import Shape
from kernels_bench.records.results import AnyRecord
from kernels_bench.report.overview import FINDINGS, INVENTED, TYPED, overview_of
from kernels_bench.report.summary.schema import RunSummary
from kernels_bench.report.summary.summarise import summarise_run
from kernels_bench.report.terminal.render import Shown, render
from support.records import CEILING, HIDDEN, O_PROJ, broken, case, ended, facts, held, timed, verified

ODD = Shape(label="unaligned/0", n=77, k=131)


def a_run(**changes: Any) -> RunSummary:
    """Two operators, one of them with shapes of both kinds, where an arm keeps its promise in a model's alone."""
    records: list[AnyRecord] = [CEILING]
    for shape, us in ((O_PROJ, 10.0), (ODD, 40.0)):
        torch, restricted = case("torch", "mm", shape), case("cublas-restricted", "mm", shape)
        records += [verified(torch, held(), broken(5)), timed(torch, 16, 10.0)]
        records += [verified(restricted, held(), broken(5) if shape is ODD else held("batch_size"))]
        records.append(timed(restricted, 16, us))
    norm = case("torch", "rms_norm", HIDDEN)
    records += [verified(norm, held()), ended(case("cublas-restricted", "rms_norm", HIDDEN), "unsupported", "none")]
    return summarise_run(records, facts(**changes))


def shown(summary: RunSummary, width: int = 80, what: Shown = Shown()) -> str:  # noqa: B008 - immutable
    console = Console(file=StringIO(), width=width, force_terminal=False)
    render(summary, console, what)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def row(text: str, name: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(name)).removeprefix(name).split()


def test_models_shapes_and_invented_ones_are_counted_apart() -> None:
    text = shown(a_run())
    assert row(text, "mm") == ["❌", "0/1", "✅", "1/1", "1.00×"]
    assert row(text, INVENTED) == ["❌", "0/1", "❌", "0/1", "0.25×"]
    assert row(text, "all models' shapes") == ["❌", "1/2", "✅", "1/1", "1.00×"]
    assert row(text, "all invented shapes") == ["❌", "0/1", "❌", "0/1", "0.25×"]
    assert row(text, "rms_norm") == ["✅", "1/1", "–"]


def test_sizes_that_were_typed_are_neither() -> None:
    typed = Shape(label="512x512", n=512, k=512)
    for others, head, below in (((O_PROJ, ODD), "mm", INVENTED), ((ODD,), "mm, typed", INVENTED)):
        cases = [case("torch", "rms_norm", HIDDEN), *(case("torch", "mm", shape) for shape in (*others, typed))]
        summary = summarise_run([CEILING, *(verified(one, held()) for one in cases)], facts())
        text = shown(summary)
        assert row(text, head) == row(text, below) == row(text, "all typed shapes") == ["✅", "1/1"]
        assert row(text, "all models' shapes")[1] == f"{len(others)}/{len(others)}"
        assert (f"\n{TYPED} " in text) == (O_PROJ in others)
        assert "1 case of typed shapes" in " ".join(shown(summary, 120, Shown(operators=("mm",))).split())


def test_in_full_they_have_a_table_each_and_a_speed_each() -> None:
    text = " ".join(shown(a_run(), 120, Shown(operators=("mm",))).split())
    assert "1 case of models' shapes" in text
    assert "1 case of invented shapes" in text
    assert "it runs at 1.00× in models' shapes and 0.25× in invented shapes of torch" in text
    assert "rms_norm, 1 case" not in text


def test_the_answer_comes_first_and_a_broken_promise_before_what_nobody_promised() -> None:
    lines = shown(a_run(), 200).splitlines()
    assert lines[0].startswith("cublas-restricted claims batch invariance and did not keep it")
    findings = [line for line in lines if "counterexample" in line]
    assert [line.split(",")[0] for line in findings] == ["- cublas-restricted", "- torch"]
    assert len(findings) <= FINDINGS
    for finding in findings:
        assert lines[lines.index(finding) + 1].lstrip().startswith("python -m kernels_bench reproduce")


@pytest.mark.parametrize("width", [40, 80, 100, 160])
def test_nothing_but_commands_is_wider_than_the_console_and_no_number_is_torn(width: int) -> None:
    lines = shown(a_run(), width).splitlines()
    assert [line for line in lines if cell_len(line) > width and "python -m" not in line] == []
    cells = [cell for line in lines if line.startswith(("mm ", "all ")) for cell in line.split() if "/" in cell]
    assert sorted(set(cells)) == ["0/1", "1/1", "1/2"]


def test_arms_that_have_no_room_stand_below_the_others() -> None:
    wide, narrow = (shown(a_run(), width).splitlines() for width in (120, 44))
    assert sum(line.startswith("mm") for line in wide) == 1
    assert sum(line.startswith("mm") for line in narrow) == 2


def test_without_signs_verdicts_are_words() -> None:
    cells = [cell for column in overview_of(a_run(), signs=False).columns for cell in column.cells]
    assert any(cell.startswith("variant") for cell in cells)
    assert all(cell.replace("–", "").replace("×", "").isascii() for cell in cells)


def test_a_run_of_one_operator_is_shown_in_full() -> None:
    torch = case("torch", "mm", O_PROJ)
    text = shown(summarise_run([verified(torch, held())], facts()))
    assert text.startswith("mm, 1 case")


def test_what_is_missing_can_be_gone_on_with() -> None:
    text = shown(a_run(missing=7), 200)
    assert "goes on with 7 measurements:" in text
    assert "--resume" in text
