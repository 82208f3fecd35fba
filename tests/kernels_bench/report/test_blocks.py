"""A report is one list of blocks; a terminal and Markdown tell all of it, in the same order."""

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from io import StringIO
from typing import Any, get_args

import pytest
from rich.console import Console

from kernels_bench.console.screen import Column
from kernels_bench.records.cases import Shape
from kernels_bench.records.results import AnyRecord, RelationResult
from kernels_bench.report.blocks import (
    Block,
    Breakage,
    Findings,
    Heading,
    Legend,
    LengthTable,
    Notices,
    Outcome,
    Sentences,
    Table,
    Whereabouts,
    blocks_of,
)
from kernels_bench.report.markdown import markdown
from kernels_bench.report.summary.schema import RunSummary
from kernels_bench.report.summary.summarise import summarise_run
from kernels_bench.report.terminal.render import Shown, render
from support.records import CEILING, HIDDEN, broken, case, ended, facts, held, timed, verified

HEADS = Shape(label="qwen3-8b/attention", heads=32, kv_heads=8, k=128, page=16, tokens=4097)
NO_GRAPH = RelationResult(relation="graph", status="unsupported", reason="needs a CUDA device")


def a_run() -> RunSummary:
    """A run with every kind of block, two operators, and everything that a block may hold."""
    decodes = [case(arm, "attention_decode", HEADS) for arm in ("torch", "vllm")]
    records: list[AnyRecord] = [
        CEILING,
        verified(case("torch"), held(), broken(5), broken(7, "position")),
        verified(case("vllm"), held(), NO_GRAPH),
        timed(case("torch"), 16, 10.0),
        timed(case("vllm"), 16, 20.0),
        *(verified(of, held(), broken(9)) for of in decodes),
        *(timed(of, 16, 1.0 + n, length=n) for of in decodes for n in (128, 4096)),
        verified(case("samebits", "rms_norm", HIDDEN), wrong="a *wrong* result"),
        ended(case("vllm", "rms_norm", HIDDEN), "unsupported", "the arm has no rms_norm"),
    ]
    return summarise_run(records, facts(missing=3))


def on_a_terminal(summary: RunSummary) -> str:
    """Wide enough that no line is broken."""
    file = StringIO()
    render(summary, Console(file=file, width=10_000), Shown(full=True))
    return file.getvalue()


def on_github(summary: RunSummary) -> str:
    """Markdown as it is read: without its escapes."""
    return re.sub(r"\\([\\|*<`\[_])", r"\1", markdown(summary))


RENDERINGS = {"terminal": on_a_terminal, "markdown": on_github}

# There is no room on a terminal for where each case broke, and who has a shell knows what was typed.  A document is
# read where there is no run directory.  Every column stands in the table unless a terminal is too narrow.
LEFT_OUT: dict[str, set[tuple[type, str]]] = {
    "terminal": {(Column, "in_words"), (Breakage, "by_case"), (Whereabouts, "command")},
    "markdown": {
        (Column, "in_words"),
        (Outcome, "sentences"),
        (Whereabouts, "directory"),
        (Whereabouts, "resume"),
    },
}


def texts(part: Any, left_out: set[tuple[type, str]]) -> Iterator[str]:
    """Every text that a block holds."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, tuple):
        for one in part:
            yield from texts(one, left_out)
    elif is_dataclass(part):
        for field in fields(part):
            if (type(part), field.name) not in left_out | {(Column, "justify")}:
                yield from texts(getattr(part, field.name), left_out)


def test_every_kind_of_block_is_there_in_this_order() -> None:
    per_operator = [Heading, Sentences, Table, Findings]
    with_lengths = [Heading, Sentences, Table, LengthTable, Findings]
    rest = [Legend, Notices, Outcome, Whereabouts]
    kinds = [type(block) for block in blocks_of(a_run())]
    assert kinds == [*per_operator, *per_operator, *with_lengths, *rest]
    assert set(kinds) == set(get_args(Block))


@pytest.mark.parametrize("name", RENDERINGS)
def test_every_block_is_told(name: str) -> None:
    told = RENDERINGS[name](a_run())
    for block in blocks_of(a_run()):
        said = list(texts(block, LEFT_OUT[name]))
        assert any(said)
        assert [text for text in said if text not in told] == []


@pytest.mark.parametrize("name", RENDERINGS)
def test_what_is_left_out_is_no_oversight_of_this_test(name: str) -> None:
    told, kept = RENDERINGS[name](a_run()), LEFT_OUT[name] - {(Column, "in_words")}
    for kind, field in kept:
        every = {text for block in blocks_of(a_run()) for text in texts(block, LEFT_OUT[name] - {(kind, field)})}
        without = {text for block in blocks_of(a_run()) for text in texts(block, LEFT_OUT[name])}
        assert [text for text in every - without if text not in told]


@pytest.mark.parametrize("rendered", RENDERINGS.values(), ids=RENDERINGS)
def test_both_keep_the_order_but_for_whereabouts(rendered: Callable[[RunSummary], str]) -> None:
    told, place = rendered(a_run()), 0
    for block in blocks_of(a_run()):
        if not isinstance(block, Whereabouts):
            first = next(text for text in texts(block, {(Breakage, "by_case")}) if text)
            place = told.index(first, place)


def test_without_signs_there_are_only_words() -> None:
    plain = {text for block in blocks_of(a_run(), signs=False) for text in texts(block, set())}
    signed = {text for block in blocks_of(a_run()) for text in texts(block, set())}
    assert "variant 1/1" in plain
    assert "❌ variant 1/1" in signed - plain
