"""Attention: the universe of sequences, the reference, honest arms, and kernels that let a sequence's company in."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.arms.pytorch import flex_attention as torch_flex
from kernels_bench.arms.pytorch.calls import padded_attention as torch_attention
from kernels_bench.arms.pytorch.calls.padded_attention import attention as padded_attention
from kernels_bench.arms.samebits.cpu import attention as cpu_attention
from kernels_bench.arms.samebits.tiles import CPU_ATTENTION_TILE
from kernels_bench.arms.vllm import triton_mla
from kernels_bench.faults.planted.paged_attention import attention as planted_attention
from kernels_bench.faults.planted.sums import in_groups, in_sequence
from kernels_bench.operators import Operator, operators
from kernels_bench.operators.attention import Attention
from kernels_bench.operators.inputs import sequences, served_pages
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.operators.inputs.rows import bell_at
from kernels_bench.operators.inputs.sequences import KINDS, census, entries, kv_lengths, special_lengths
from kernels_bench.operators.inputs.special_sequences import masked_tokens
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.results import Verification
from kernels_bench.relations import Setting, make_batch, relations
from kernels_bench.relations.base import sweep
from kernels_bench.relations.batch import FIRST_SPECIAL, HOSTILE, LONG_NEIGHBOUR, SPECIAL, UNUSED, Batch
from kernels_bench.report.summary.findings_text import describe
from kernels_bench.verification.bitwise import same_bits
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.subject.launched import KernelFault
from kernels_bench.verification.verifier import Verifier

CPU = torch.device("cpu")
OPERATORS = ("attention_decode", "attention_prefill", "attention_mixed")
SHAPE = Shape(label="test", heads=4, kv_heads=2, k=16, page=16, tokens=65)
COUNT = 9
TOKENS = 1 << 20


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_another_tile_shows_in_sixteen_bits_in_a_quarter_of_all_sequences(seed: int) -> None:
    """Sums of a few numbers of 16 bits are exact in fp32, in whatever order, where these span few binades."""
    shape = Shape(label="test", heads=2, kv_heads=1, k=16, page=16, tokens=65)
    known, universe = operators()["attention_decode"], 17
    tables, weights = (given(shape, universe, torch.bfloat16, seed, CPU) for given in (known.rows, known.shared_inputs))
    company = make_batch(f"first:{universe}", universe)
    arguments = known.arguments(known.gather(company, universe, shape, tables, weights), weights)
    one, other = (planted_attention(add)(*arguments) for add in (in_sequence, in_groups(8)))
    assert int((one != other).flatten(1).any(1).sum()) >= universe // 4


@pytest.mark.parametrize("name", ["attention_decode", "attention_prefill"])
def test_pages_in_order_follow_one_another_and_give_the_same(name: str) -> None:
    made = subject(name, planted_attention(in_groups(8)))
    ordered, usual = (make_batch(spec, COUNT) for spec in (f"placed:{COUNT}:1", f"first:{COUNT}"))
    batch = made.operator.arguments(made.gather(ordered), made.weights)[3]
    pages = -(-batch.lengths[:, 1] // made.case.shape.page)
    own = [row[:count] for row, count in zip(batch.block_table, pages.tolist(), strict=True)]
    assert torch.equal(torch.cat(own), torch.arange(int(pages.sum()), dtype=torch.int32))
    assert all(same_bits(a, b) for a, b in zip(made.run(ordered), made.run(usual), strict=True))


def test_sequences_of_one_length_and_short_ones_are_served_so() -> None:
    known = census("mixed", SHAPE, COUNT)
    for row in range(COUNT):
        served = entries(known, make_batch(f"among:6:{row}:0", COUNT))
        assert {*zip(served.start.tolist(), served.stop.tolist(), strict=True)} == {
            (int(known.start[row]), int(known.kv[row]))
        }
        alone = entries(known, make_batch(f"among:6:{row}:1", COUNT))
        assert alone.stop.tolist() == [1, 1, 1, int(known.kv[row]), 1, 1]
    short = entries(known, make_batch("short:8:3", COUNT))
    assert short.stop.tolist() == [*sorted(known.kv[:COUNT].tolist())[:3]] * 2 + sorted(known.kv[:COUNT].tolist())[:2]


def subject(name: str, kernel: Kernel, shape: Shape = SHAPE, text: str = "bf16", count: int = COUNT) -> KernelUnderTest:
    case = Case(arm="planted", operator=name, shape=shape, precision=Precision.parse(text))
    return KernelUnderTest(case, operators()[name], kernel, seed=0, universe=count, device=CPU)


def verify(name: str, kernel: Kernel, *chosen: str, shape: Shape = SHAPE, text: str = "bf16") -> Verification:
    found = [r for r in relations().values() if not chosen or r.name in chosen]
    setting = Setting(COUNT, sweep(COUNT), longest=shape.tokens or 0, page=shape.page or 0, most=2 * COUNT)
    return Verifier(subject(name, kernel, shape, text), 0).verify(found, setting, [1, COUNT])


def broken(verification: Verification) -> set[str]:
    return {result.relation for result in verification.relations if result.status == "broken"}


# The universe.


def test_lengths_lie_on_either_side_of_every_edge() -> None:
    lengths = kv_lengths(32768)
    assert {1, 2, 5, 15, 16, 17, 127, 128, 129, 4095, 4096, 4097, 32767, 32768} <= set(lengths)
    for tile in (24, 48, 80, 96, 112, 176, 192):
        assert {tile - 1, tile, tile + 1} <= set(lengths)
        multiples = [n for n in lengths if n % tile == 0 and n & (n - 1) and n > tile]
        assert len(multiples) >= 2
        assert {n + 1 for n in multiples} <= set(lengths)
    assert max(kv_lengths(129)) == 129
    assert kv_lengths(1) == (1,)


@pytest.mark.parametrize("tokens", [65, 4097, 32768])
def test_a_small_universe_has_the_most_telling_lengths(tokens: int) -> None:
    known = census("decode", SHAPE.model_copy(update={"tokens": tokens}), 17)
    assert {1, 2, 5, 15, 16, 17, 22, 25, 33, 48, 64, 65, tokens - 1, tokens} <= set(known.kv[:17].tolist())
    assert len(set(known.kv[:17].tolist())) == 17
    smallest = census("prefill", SHAPE.model_copy(update={"tokens": tokens}), 8)
    assert {1, 5, 15, 17, 25, 48, 64, tokens} == set(smallest.kv[:8].tolist())


def test_lengths_that_were_asked_for_come_first() -> None:
    operator = operators()["attention_decode"].with_lengths((37, 5, 100))
    assert isinstance(operator, Attention)
    known = operator.census(SHAPE, 40)
    assert known.kv[:5].tolist() == [37, 5, 100, 15, 17]
    assert sorted(set(known.kv[:40].tolist())) == sorted({*kv_lengths(65), 37, 100})
    assert known.kv[40 + LONG_NEIGHBOUR] == SHAPE.tokens
    table = operator.rows(SHAPE, 4, torch.bfloat16, 0, CPU)[1]
    assert table.shape == (4 + FIRST_SPECIAL + len(SPECIAL), 7)
    assert operators()["mm"].with_lengths((3,)) is operators()["mm"]
    default = operators()["attention_decode"]
    assert isinstance(default, Attention)
    assert default.census(SHAPE, 3).kv[:3].tolist() == [15, 17, 5]


@pytest.mark.parametrize("mode", ["decode", "prefill", "mixed"])
def test_the_first_sequences_do_not_depend_on_how_many_there_are(mode: Any) -> None:
    few, many = census(mode, SHAPE, 5), census(mode, SHAPE, 40)
    assert few.kv[:5].tolist() == many.kv[:5].tolist()
    assert few.start[:5].tolist() == many.start[:5].tolist()
    assert few.kv[5 + LONG_NEIGHBOUR] == many.kv[40 + LONG_NEIGHBOUR] == SHAPE.tokens
    assert (few.start < few.kv).all()


def test_every_length_meets_every_kind_of_sequence() -> None:
    lengths = kv_lengths(4097)
    known = census("decode", SHAPE.model_copy(update={"tokens": 4097}), 257)
    met = {(int(n), row % len(KINDS)) for row, n in enumerate(known.kv[:257])}
    assert met == {(n, kind) for n in lengths for kind in range(len(KINDS))}


def test_every_page_belongs_to_one_sequence() -> None:
    known = census("prefill", SHAPE, COUNT)
    used = [page for row, pages in zip(known.block_table, known.pages, strict=True) for page in row[:pages]]
    assert sorted(used) == list(range(int(known.pages.sum())))


SPECS = ("first:9", "shuffle:7:1", "rotate:5:2", "others:6:1", "nan:5:0", "chunks:9:7", "tails:9", "placed:9:3")


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("spec", [*SPECS, "decoding:6:33:1", "prefilling:6:17:2"])
def test_the_lines_are_those_of_the_batch(name: str, spec: str) -> None:
    operator = operators()[name]
    assert isinstance(operator, Attention)
    made = make_batch(spec, COUNT)
    batch = entries(operator.census(SHAPE, COUNT), made)
    lines = operator.lines(made, COUNT, SHAPE)
    assert operator.lines(made, COUNT, SHAPE) is lines
    listed = [
        (row, token)
        for row, start, stop in zip(batch.row, batch.start, batch.stop, strict=True)
        for token in range(start, stop)
    ]
    assert [operator.locate_row(int(line)) for line in lines.ids] == listed
    rows = [listed[place][0] for place in lines.compared]
    assert rows
    assert max(rows) < COUNT
    assert len({listed[place] for place in lines.compared}) == len(rows)


@given(chunk=st.integers(1, 80), size=st.integers(1, COUNT))
def test_chunks_cover_the_whole_and_tails_are_its_last_tokens(chunk: int, size: int) -> None:
    for mode in ("prefill", "mixed"):
        whole, cut, tails = (
            entries(census(mode, SHAPE, COUNT), make_batch(spec, COUNT))
            for spec in (f"first:{size}", f"chunks:{size}:{chunk}", f"tails:{size}")
        )
        assert cut.lines.ids.tolist() == whole.lines.ids.tolist()
        assert (cut.stop - cut.start).max() <= chunk
        assert tails.lines.ids.tolist() == (whole.row * TOKENS + whole.stop - 1).tolist()


def test_drafts_are_not_as_many_of_each_long_sequence() -> None:
    known = census("prefill", SHAPE, COUNT)
    served, whole = (entries(known, make_batch(spec, COUNT)) for spec in ("unequal:6:4", f"first:{COUNT}"))
    wanted = np.minimum(served.stop, [4, 3, 2, 4, 3, 2])
    assert (served.stop - served.start).tolist() == wanted.tolist()
    assert {*served.lines.ids.tolist()} <= {*whole.lines.ids.tolist()}


def test_neighbours_have_the_length_asked_for() -> None:
    for spec, start in (("decoding:7:33:1", 32), ("prefilling:7:33:1", 0)):
        batch = entries(census("prefill", SHAPE, COUNT), make_batch(spec, COUNT))
        strangers = ~batch.compared
        assert set(batch.row[strangers]) == {COUNT + LONG_NEIGHBOUR}
        assert set(batch.stop[strangers]) == {33}
        assert set(batch.start[strangers]) == {start}


def logical_keys(made: KernelUnderTest, spec: str) -> list[torch.Tensor]:
    """Each entry's keys in order, read through the block table."""
    _, keys, _, batch = made.operator.arguments(made.gather(make_batch(spec, COUNT)), made.weights)
    return [keys[batch.block_table[entry].long()].flatten(0, 1)[:n] for entry, n in enumerate(batch.seqused_k.tolist())]


def test_pages_move_and_what_they_hold_does_not() -> None:
    made = subject("attention_decode", padded_attention)
    here, there = (logical_keys(made, spec) for spec in ("first:9", "placed:9:1"))
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    tables = [made.gather(make_batch(spec, COUNT))[3] for spec in ("first:9", "placed:9:1", "placed:9:2")]
    assert not torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[1], tables[2])


def test_a_sequence_is_the_same_in_every_universe() -> None:
    few, many = (subject("attention_prefill", padded_attention, count=count) for count in (4, COUNT))
    for row in range(4):
        line = torch.arange(int(census("prefill", SHAPE, 4).kv[row])) + row * TOKENS
        answers = [s.operator.reference(s.operator.inputs_of(line, s.tables), s.weights)[0] for s in (few, many)]
        assert torch.equal(*answers)


@pytest.mark.parametrize("name", ["attention_prefill", "attention_decode"])
def test_data_do_not_depend_on_how_many_tokens_are_drawn_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = subject(name, padded_attention)
    monkeypatch.setattr(sequences, "_CHUNK_ELEMENTS", 7 * 64)  # seven tokens' queries
    parts = subject(name, padded_attention)
    for left, right in zip((*whole.tables, *whole.weights), (*parts.tables, *parts.weights), strict=True):
        assert bool(same_bits(left, right))


@pytest.mark.parametrize("text", ["bf16", "fp16"])
def test_hostile_sequences_are_hostile(text: str) -> None:
    made = subject("attention_decode", padded_attention, text=text)
    for number, kind in enumerate(HOSTILE):
        entry = {"huge": torch.finfo(made.tables[0].dtype).max, "inf": torch.inf, "nan": torch.nan, "zero": 0.0}[kind]
        values = made.tables[0][
            int(made.tables[2][COUNT + number] + census("decode", SHAPE, COUNT).kv[COUNT + number]) - 1
        ]
        expected = torch.tensor(entry, dtype=values.dtype)
        assert torch.equal(values.abs().nan_to_num(7), expected.abs().nan_to_num(7).expand_as(values))


# How sequences are served.

TWELVE = 12


def served(name: str, spec: str, text: str = "bf16") -> tuple[KernelUnderTest, Any, Batch]:
    """A kernel's arguments for a batch, of a universe of twelve."""
    shape = LONGER_LATENT if name == "mla_decode" else SHAPE
    made = subject(name, padded_attention, shape, text, count=TWELVE)
    batch = make_batch(spec, TWELVE)
    return made, made.operator.arguments(made.gather(batch), made.weights), batch


def held(caches: tuple[Tensor, ...], pages: Tensor, kv: int) -> list[Tensor]:
    """What each cache holds of a sequence's tokens in order."""
    return [torch.stack([cache[int(pages[t // 16]), t % 16] for t in range(kv)]) for cache in caches]


@pytest.mark.parametrize(
    "spec",
    ["unused:7:1", "unused:12:2", "unused:12:3", "unused:1:1", "placed:9:2", "placed:9:5", "far:12", "cycled:30"],
)
@pytest.mark.parametrize("name", [*OPERATORS, "mla_decode"])
def test_however_pages_are_served_they_hold_each_sequences_own_tokens(
    name: str, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_pages, "OFFSETS", 1 << 14)
    monkeypatch.setattr(served_pages, "MANY_PAGES", 70)
    made, (queries, *caches, batch), chosen = served(name, spec)
    for entry, row in enumerate(chosen.rows.tolist()):
        kv = int(batch.seqused_k[entry])
        own = held(made.weights, made.tables[1][row], kv)
        assert all(same_bits(a, b) for a, b in zip(held(tuple(caches), batch.block_table[entry], kv), own, strict=True))
        first, last = batch.cu_seqlens_q[entry : entry + 2].tolist()
        assert same_bits(queries[first:last], sequence(made, row)[0])
    assert not any(cache is weight for cache in caches for weight in made.weights) or spec.startswith("cycled")


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 7, 12])
@pytest.mark.parametrize("name", ["attention_decode", "mla_decode"])
def test_slots_that_no_token_was_written_to_hold_something_else(name: str, size: int, number: int) -> None:
    made, (_, *caches, batch), _ = served(name, f"unused:{size}:{number}")
    used = {
        (int(batch.block_table[entry, t // 16]), t % 16) for entry, kv in enumerate(batch.seqused_k) for t in range(kv)
    }
    written = {row.numpy().tobytes() for cache in caches for row in [cache[place].view(torch.int16) for place in used]}
    largest = torch.finfo(torch.bfloat16).max
    for cache, weight in zip(caches, made.weights, strict=True):
        assert len(cache) > len(weight)
        for place in itertools.product(range(len(cache)), range(16)):
            if place not in used:
                slot = cache[place]
                what = UNUSED[number]
                assert slot.isnan().all() if what == "NaN" else (what != "huge" or (slot == largest).all())
                assert what != "other tokens" or slot.view(torch.int16).numpy().tobytes() in written
    pages = {page for page, _ in used}
    for entry, kv in enumerate(batch.seqused_k.tolist()):
        stale = batch.block_table[entry, -(-kv // 16) :].tolist()
        assert not pages & {*stale}
        assert all(0 <= page < len(caches[0]) for page in stale)


@pytest.mark.parametrize("size", [2, 5, 12])
@pytest.mark.parametrize("pages", [1, 2, 7])
@pytest.mark.parametrize("name", [*OPERATORS, "mla_decode"])
def test_first_pages_are_the_longest_sequences(name: str, pages: int, size: int) -> None:
    made, (queries, *copies, apart), chosen = served(name, f"apart:{size}:{pages}")
    _, (same_queries, *caches, shared), _ = served(name, f"shared:{size}:{pages}")
    assert same_bits(queries, same_queries)
    assert torch.equal(apart.lengths, shared.lengths)
    longest = int(apart.seqused_k.argmax())
    known = census("prefill" if "prefill" in name else "mixed" if "mixed" in name else "decode", SHAPE, TWELVE)
    assert (known.kv[known.longest_first] == sorted(known.kv[:TWELVE], reverse=True)).all()
    tables = made.tables[1][known.longest_first[chosen.rows]]
    whole = held(made.weights, tables[longest], int(apart.seqused_k[longest]))
    assert torch.equal(apart.block_table, tables)
    for entry, kv in enumerate(apart.seqused_k.tolist()):
        alike = min(pages, kv // 16)
        assert shared.block_table[entry, :alike].tolist() == tables[longest, :alike].tolist()
        assert shared.block_table[entry, alike:].tolist() == tables[entry, alike:].tolist()
        own = held(made.weights, tables[entry], kv)
        expected = [torch.cat([a[: alike * 16], b[alike * 16 :]]) for a, b in zip(whole, own, strict=True)]
        for found, table in ((copies, apart.block_table), (caches, shared.block_table)):
            assert all(same_bits(a, b) for a, b in zip(held(tuple(found), table[entry], kv), expected, strict=True))
    assert all(same_bits(a, b) for a, b in zip(caches, made.weights, strict=True))


def test_far_pages_lie_beyond_what_31_bits_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_pages, "OFFSETS", 10_000)
    made, (_, keys, values, batch), _ = served("attention_decode", "far:12")
    for cache in (keys, values):
        assert int(batch.block_table.min()) * cache[0].numel() > 10_000
        assert int(batch.block_table.max()) < len(cache)
    expected = made.operator.far_bytes(SHAPE, Precision.parse("bf16"), TWELVE)
    assert keys.nbytes + values.nbytes == expected
    monkeypatch.undo()
    assert 2**33 < made.operator.far_bytes(SHAPE, Precision.parse("bf16"), TWELVE) < 1.001 * 2**33
    assert made.operator.huge_rows(SHAPE) == made.operator.huge_bytes(SHAPE, Precision.parse("bf16")) == 0
    assert made.operator.view(make_batch("first:12", TWELVE), made.tables) is None


@pytest.mark.parametrize("text", ["bf16", "fp16"])
@pytest.mark.parametrize("name", OPERATORS)
def test_samebits_keeps_its_bits_however_pages_are_served(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_pages, "OFFSETS", 1 << 14)
    made = subject(name, cpu_attention.attention, text=text, count=TWELVE)
    for reference, others in (
        ("first:12", ("unused:12:1", "unused:12:2", "unused:12:3", "placed:12:1", "far:12")),
        ("apart:12:2", ("shared:12:2",)),
    ):
        (expected,) = made.run(make_batch(reference, TWELVE))
        for spec in others:
            assert same_bits(made.run(make_batch(spec, TWELVE))[0], expected), spec


def sequence(made: KernelUnderTest, row: int) -> tuple[Tensor, Tensor, Tensor]:
    """A sequence's queries, keys and values in order."""
    operator = made.operator
    assert isinstance(operator, Attention)
    known = operator.census(made.case.shape, made.universe)
    start, kv = int(known.start[row]), int(known.kv[row])
    first = int(made.tables[2][row]) + start
    pages = made.tables[1][row].long()
    keys, values = (cache[pages].flatten(0, 1)[:kv] for cache in operator.keys_and_values(made.weights))
    return made.tables[0][first : first + kv - start], keys, values


LONGER_LATENT = Shape(label="test", heads=2, kv_heads=1, k=576, page=16, tokens=65)
EVERY_OPERATOR = (*((name, SHAPE) for name in OPERATORS), ("mla_decode", LONGER_LATENT))


@pytest.mark.parametrize("text", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize(("name", "shape"), EVERY_OPERATOR)
def test_special_sequences_are_as_special_as_they_say(name: str, shape: Shape, text: str) -> None:
    made = subject(name, padded_attention, shape, text, count=3)
    of = {kind: sequence(made, 3 + FIRST_SPECIAL + number) for number, kind in enumerate(SPECIAL)}
    dtype = made.tables[0].dtype
    tiny, largest = torch.finfo(dtype).tiny, torch.finfo(dtype).max
    values = {kind: found[2] for kind, found in of.items()}
    assert ((values["subnormal"] != 0) & (values["subnormal"].abs() < tiny)).all()
    assert ((values["negative zero"] == 0) & values["negative zero"].signbit()).all()
    assert (values["signed zeros"] == 0).all()
    assert values["signed zeros"].signbit().float().mean() == pytest.approx(0.5, abs=0.02)
    for kind, value in (("infinity", torch.inf), ("negative infinity", -torch.inf)):
        assert ((values[kind] == value).flatten(1).sum(1) == torch.tensor([values[kind].shape[1]] + [0] * 32)).all()
    assert (values["NaN"][0].isnan().sum(-1) == 1).all()
    assert values["NaN"][1:].isfinite().all()
    assert (values["largest"].abs() == largest / 512).all()
    told = {"attention_decode": 0, "mla_decode": 512}.get(name, 0)
    for queries, keys, _ in of.values():
        assert (queries[..., told] >= 1).all()
        assert len(keys) == (65 if keys is of["masked"][1] else 33)
    hidden = of["masked"][1][..., told] == -torch.inf
    assert hidden.all(-1).tolist() == [place < 32 for place in range(65)]
    logits = (of["masked"][0][-1, :1].double() * of["masked"][1].double()[:, 0]).sum(-1)
    assert (logits == -torch.inf).tolist() == [place < 32 for place in range(65)]
    assert logits[32:].isfinite().all()
    outlier = of["outlier"][1][..., told]
    assert (outlier > 100).all(-1).nonzero().tolist() == [[22]]
    assert len(of["constant"][1].unique()) == 1


def test_whole_blocks_of_a_long_sequence_are_masked() -> None:
    for page, expected in ((16, [128, 161]), (256, [256, 384])):
        shape = SHAPE.model_copy(update={"tokens": 4097, "page": page})
        masked = special_lengths(shape, 4097)[SPECIAL.index("masked")]
        assert [int(masked_tokens(torch.tensor(masked))), masked] == expected
    assert masked_tokens(torch.tensor([1, 2, 5, 17, 33, 65])).tolist() == [0, 1, 2, 8, 16, 32]


@pytest.mark.parametrize(("name", "shape"), EVERY_OPERATOR)
def test_what_special_sequences_hold_is_the_same_in_every_universe(name: str, shape: Shape) -> None:
    few, many = (subject(name, padded_attention, shape, count=count) for count in (3, 8))
    for row in range(3):
        assert all(same_bits(a, b) for a, b in zip(sequence(few, row), sequence(many, row), strict=True))
    for number in range(FIRST_SPECIAL, FIRST_SPECIAL + len(SPECIAL)):
        for left, right in zip(sequence(few, 3 + number), sequence(many, 8 + number), strict=True):
            assert same_bits(left, right)


@pytest.mark.parametrize("name", OPERATORS)
def test_ordinary_sequences_hold_what_is_drawn_for_their_numbers(name: str) -> None:
    made = subject(name, padded_attention, text="fp32")
    known = census(made.operator.mode, SHAPE, COUNT)  # type: ignore[attr-defined]
    for row in range(COUNT):
        queries, keys, values = sequence(made, row)
        kind, kv = KINDS[row % len(KINDS)], int(known.kv[row])
        if kind == "normal":
            ids = torch.arange(kv) + row * TOKENS
            for stream, found, first in (
                ("keys", keys, 0),
                ("values", values, 0),
                ("queries", queries, known.start[row]),
            ):
                assert torch.equal(found.flatten(1), bell_at(0, stream, ids[int(first) :], found[0].numel()))


@pytest.mark.parametrize("text", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("name", OPERATORS)
def test_samebits_keeps_special_sequences_in_every_batch(name: str, text: str) -> None:
    made = subject(name, cpu_attention.attention, text=text, count=12)
    together = make_batch(f"special:{len(SPECIAL)}:0", 12)
    expected = dict(zip(made.lines(together).ids.tolist(), made.run(together)[0], strict=True))
    for m in (1, 3, 6, 12):
        for place in range(len(SPECIAL) if m == 1 else 2):
            batch = make_batch(f"special:{m}:{place}", 12)
            lines, (found,) = made.lines(batch), made.run(batch)
            for line in lines.compared:
                assert same_bits(found[line], expected[int(lines.ids[line])]), (m, place, line)


# The reference.


@pytest.mark.parametrize("name", OPERATORS)
def test_what_is_judged_by_is_the_reference_and_its_allowance(name: str) -> None:
    made = subject(name, padded_attention)
    lines = torch.tensor(made.lines(make_batch(f"first:{COUNT}", COUNT)).ids).flip(0)
    inputs = made.operator.inputs_of(lines, made.tables)
    (exact,), (allowed,) = made.operator.reference_and_tolerance(inputs, made.weights, torch.float16)
    alone = made.operator.reference(inputs, made.weights)
    # Values that cancel leave what float64 has rounded off, and a processor's library its own.
    torch.testing.assert_close(exact, alone[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        allowed, made.operator.tolerance(inputs, made.weights, alone, torch.float16)[0], rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("name", OPERATORS)
def test_the_reference_is_causal_attention_over_each_sequences_own_keys(name: str) -> None:
    made = subject(name, padded_attention)
    everyone = make_batch(f"first:{COUNT}", COUNT)
    q, keys, values, batch = made.operator.arguments(made.gather(everyone), made.weights)
    ids = torch.tensor(made.lines(everyone).ids)
    exact = made.operator.reference(made.operator.inputs_of(ids, made.tables), made.weights)[0]
    for entry, (queries, seen) in enumerate(batch.lengths.tolist()):
        mine = slice(*batch.cu_seqlens_q[entry : entry + 2].tolist())
        k, v = (
            cache[batch.block_table[entry].long()].flatten(0, 1)[:seen].double().transpose(0, 1)
            for cache in (keys, values)
        )
        visible = torch.ones(queries, seen, dtype=torch.bool).tril(seen - queries)
        expected = F.scaled_dot_product_attention(
            q[mine].double().transpose(0, 1), k, v, attn_mask=visible, scale=batch.scale, enable_gqa=True
        )
        torch.testing.assert_close(exact[mine], expected.transpose(0, 1), rtol=1e-12, atol=1e-13)


def test_values_of_flat_sequences_cancel_at_the_last_token() -> None:
    made = subject("attention_decode", padded_attention)
    rows = torch.arange(0, COUNT, len(KINDS))
    kv = torch.tensor(census("decode", SHAPE, COUNT).kv)
    exact = made.operator.reference(made.operator.inputs_of(rows * TOKENS + kv[rows] - 1, made.tables), made.weights)[0]
    assert exact.abs().max() < 1e-13


def test_a_missing_key_is_more_than_the_allowance() -> None:
    def blind(q: Tensor, keys: Tensor, values: Tensor, batch: PagedBatch) -> Tensor:
        lengths = torch.stack([batch.lengths[:, 0], (batch.lengths[:, 1] - 1).clamp(min=1)], 1)
        fewer = batch._replace(seqused_k=(batch.seqused_k - 1).clamp(min=1), lengths=lengths)
        result: Tensor = padded_attention(q, keys, values, fewer)
        return result

    assert verify("attention_decode", blind, "repeat").verdict == "wrong"
    assert verify("attention_decode", padded_attention, "repeat").verdict == "sampled"


# Arms.


@pytest.mark.parametrize("text", ["bf16", "fp16"])
@pytest.mark.parametrize("name", OPERATORS)
def test_samebits_keeps_every_relation_and_the_allowance(name: str, text: str) -> None:
    found = verify(name, cpu_attention.attention, text=text)
    assert broken(found) == set()
    assert found.verdict == "sampled"
    assert found.accuracy is not None
    assert found.accuracy.worst < 0.5
    asked = {r.name for r in relations().values() if r.applies_to(operators()[name].rows_are)}
    assert {result.relation for result in found.relations} == asked - {"before_window"}  # there is no window here
    assert all(result.companies > 0 for result in found.relations if result.status == "held")


@pytest.mark.parametrize("heads", [(3, 1, 8), (2, 2, 24), (8, 1, 64)])
def test_samebits_serves_every_head_layout(heads: tuple[int, int, int]) -> None:
    shape = Shape(label="test", heads=heads[0], kv_heads=heads[1], k=heads[2], page=32, tokens=33)
    found = verify("attention_mixed", cpu_attention.attention, "batch_size", "chunking", shape=shape)
    assert (found.verdict, broken(found)) == ("sampled", set())


def test_samebits_gives_masked_keys_no_weight_at_all() -> None:
    made = subject("attention_decode", cpu_attention.attention, text="fp32")
    row = COUNT + FIRST_SPECIAL + SPECIAL.index("masked")
    q, keys, values = sequence(made, row)
    hidden = int((keys[:, 0, 0] == -torch.inf).sum())
    pages = made.tables[1][row : row + 1]
    made.weights[1][pages[0, : hidden // 16].long()] = torch.finfo(torch.float32).max  # times 1e-38 is something
    batch = PagedBatch(
        cu_seqlens_q=torch.tensor([0, 1], dtype=torch.int32),
        seqused_k=torch.tensor([len(keys)], dtype=torch.int32),
        block_table=pages,
        lengths=torch.tensor([[1, len(keys)]]),
        scale=0.25,
    )
    logits = q.view(2, 2, -1).double() @ keys[hidden:].permute(1, 2, 0).double() * batch.scale
    expected = (logits.softmax(-1) @ values[hidden:].transpose(0, 1).double()).view(1, 4, -1)
    key_cache, value_cache = made.weights
    found = cpu_attention.attention(q, key_cache, value_cache, batch)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_samebits_exponential_is_exp() -> None:
    x = -torch.linspace(0, 86, 100_001)
    torch.testing.assert_close(cpu_attention.exp_of_negative(x), x.double().exp().float(), rtol=4e-7, atol=0)
    assert cpu_attention.exp_of_negative(torch.tensor([0.0, -torch.inf])).tolist() == [
        1.0,
        pytest.approx(1.6e-38, rel=0.1),
    ]
    # Alike wherever it stands: no vector's end, no thread's share.
    assert torch.equal(cpu_attention.exp_of_negative(x)[5::7], cpu_attention.exp_of_negative(x[5::7].clone()))


@pytest.mark.parametrize("name", OPERATORS)
def test_torchs_padded_attention_is_right(name: str) -> None:
    """Whether it varies is for the processor's libraries to say."""
    assert verify(name, padded_attention).wrong == ""


def tiles_by_the_longest(*arguments: Any) -> Tensor:
    """Our kernel, in tiles of half as many keys where the batch's longest sequence has more than one tile."""
    block = 8 if arguments[-1].most_keys > 16 else 16
    return cpu_attention.attention(*arguments, tile=CPU_ATTENTION_TILE._replace(block=block))


@pytest.mark.parametrize("name", OPERATORS)
def test_tiles_by_the_longest_vary_and_the_counterexample_can_be_made_again(name: str) -> None:
    # In fp32, since few results of 16 bits show another order of addition.
    found = verify(name, tiles_by_the_longest, "batch_size", "neighbour_length", text="fp32")
    assert found.verdict == "variant"
    assert found.wrong == ""
    assert "neighbour_length" in broken(found)
    result = next(r for r in found.relations if r.relation == "neighbour_length")
    shown = result.counterexample
    assert shown is not None
    assert shown.token is not None
    assert f"row {shown.row}, token {shown.token}, differs" in describe(shown)
    assert "neighbours " in describe(shown)
    made = subject(name, tiles_by_the_longest, text="fp32")
    outputs = [made.run(make_batch(ref.spec, COUNT))[0] for ref in (shown.reference, shown.company)]
    expected, got = (
        out[ref.position].flatten()[shown.index]
        for out, ref in zip(outputs, (shown.reference, shown.company), strict=True)
    )
    assert (float(expected), float(got)) == (shown.expected, shown.got)
    for ref in (shown.reference, shown.company):
        line = made.lines(make_batch(ref.spec, COUNT)).ids[ref.position]
        assert made.operator.locate_row(int(line)) == (shown.row, shown.token)


def test_a_batch_too_large_to_pad_is_served_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    made = subject("attention_mixed", padded_attention)
    arguments = made.operator.arguments(made.gather(make_batch("first:9", COUNT)), made.weights)
    whole = padded_attention(*arguments)
    monkeypatch.setattr(torch_attention, "PADDED_BYTES", 40_000)
    token_bytes = made.weights[0][0, 0].numel() * 2
    parts = [(part.begin, part.end) for part in torch_attention.parts(arguments[3], token_bytes)]
    assert len(parts) > 2
    assert [a for a, _ in parts[1:]] == [b for _, b in parts[:-1]]
    assert (parts[0][0], parts[-1][1]) == (0, len(whole))
    torch.testing.assert_close(padded_attention(*arguments), whole, rtol=2e-2, atol=2e-2)


def test_a_graph_is_refused_where_it_could_not_follow_the_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    made = subject("attention_mixed", padded_attention)
    arguments = made.operator.arguments(made.gather(make_batch("first:9", COUNT)), made.weights)
    monkeypatch.setattr(torch_attention, "_capturing", lambda batch: True)
    padded_attention(*arguments)
    monkeypatch.setattr(torch_attention, "PADDED_BYTES", 40_000)
    for kernel in (padded_attention, torch_flex.kernels()["attention_mixed"]):
        with pytest.raises(RuntimeError, match="a graph would not"):
            kernel(*arguments)


# Planted faults: what a company could do to a sequence. Each is the same kernel but for one thing.


Fault = Callable[[Tensor, PagedBatch], tuple[Tensor, PagedBatch]]


def with_fault(fault: Fault) -> Kernel:
    """samebits' kernel, its queries and its batch changed as the fault says."""

    def kernel(q: Tensor, keys: Tensor, values: Tensor, batch: PagedBatch) -> Tensor:
        changed, told = fault(q, batch)
        return cpu_attention.attention(changed, keys, values, told)

    return kernel


def no_fault(q: Tensor, batch: PagedBatch) -> tuple[Tensor, PagedBatch]:
    return q, batch


def scaled_by_the_longest(q: Tensor, batch: PagedBatch) -> tuple[Tensor, PagedBatch]:
    return q, batch._replace(scale=batch.scale * (1 + 2.0**-20 * batch.most_keys))


def scaled_by_the_most_queries(q: Tensor, batch: PagedBatch) -> tuple[Tensor, PagedBatch]:
    return q, batch._replace(scale=batch.scale * (1 + 2.0**-9 * (batch.most_queries > 16)))


def scaled_by_the_batch(q: Tensor, batch: PagedBatch) -> tuple[Tensor, PagedBatch]:
    return q, batch._replace(scale=batch.scale * (1 + 2.0**-18 * (len(batch.lengths) > 4)))


def scaled_by_the_page(q: Tensor, batch: PagedBatch) -> tuple[Tensor, PagedBatch]:
    odd = torch.repeat_interleave(batch.block_table[:, 0] % 2, batch.lengths[:, 0])
    return q * (1 + 2.0**-7 * odd[:, None, None]).to(q.dtype), batch


def touched_by_the_last(q: Tensor, batch: PagedBatch) -> tuple[Tensor, PagedBatch]:
    return q * (1 + 2.0**-6 * bool((q[-1] * 0).isnan().any())), batch


def sharper_for_single_queries(q: Tensor, batch: PagedBatch) -> tuple[Tensor, PagedBatch]:
    alone = torch.repeat_interleave(batch.lengths[:, 0] == 1, batch.lengths[:, 0])
    return q * (1 + 2.0**-7 * alone[:, None, None]).to(q.dtype), batch


FAULTS: dict[Fault, tuple[str, str]] = {
    scaled_by_the_longest: ("attention_prefill", "neighbour_length"),
    scaled_by_the_most_queries: ("attention_decode", "neighbour_length"),
    scaled_by_the_batch: ("attention_mixed", "batch_size"),
    scaled_by_the_page: ("attention_decode", "page_placement"),
    touched_by_the_last: ("attention_prefill", "neighbour_content"),
    sharper_for_single_queries: ("attention_prefill", "prefill_decode"),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_control_of_every_fault_is_clean(name: str) -> None:
    asked = {relation for operator, relation in FAULTS.values() if operator == name}
    assert broken(verify(name, with_fault(no_fault), *sorted(asked))) == set()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.__name__))
def test_a_planted_fault_is_found_by_its_relation(fault: Fault) -> None:
    name, relation = FAULTS[fault]
    assert relation in broken(verify(name, with_fault(fault), relation))


def test_writing_into_the_cache_is_a_fault() -> None:
    def writes(*arguments: Any) -> torch.Tensor:
        out = cpu_attention.attention(*arguments)
        arguments[1][0, 0, 0, 0] = 3
        return out

    with pytest.raises(KernelFault, match="writes into its weights"):
        verify("attention_decode", writes, "repeat")


def test_bytes_and_operations_are_those_of_the_definition() -> None:
    operator: Operator = operators()["attention_decode"]
    kv = census("decode", SHAPE, 3).kv[:3]
    assert operator.operations(SHAPE, 3) == 4 * int(kv.sum()) * 4 * 16
    assert operator.bytes_moved(SHAPE, Precision.parse("bf16"), 3) == 2 * (2 * int(kv.sum()) * 2 * 16 + 2 * 3 * 4 * 16)
    prefill = operators()["attention_prefill"]
    seen = int((kv * (kv + 1) // 2).sum())
    assert np.array_equal(census("prefill", SHAPE, 3).kv[:3], kv)
    assert prefill.operations(SHAPE, 3) == 4 * seen * 4 * 16


@pytest.mark.parametrize("name", OPERATORS)
def test_flex_attention_is_right_and_says_which_blocks_are_seen(name: str) -> None:
    flex = torch_flex.kernels()[name]
    found = verify(name, flex, "repeat", "page_placement")
    assert (found.wrong, broken(found)) == ("", set())
    made = subject(name, flex)
    arguments = made.operator.arguments(made.gather(make_batch(f"first:{COUNT}", COUNT)), made.weights)
    (part,) = torch_attention.parts(arguments[3], 1)
    mask = torch_flex.block_mask(part)
    counts, used = arguments[3].lengths.unbind(1)
    # No sequence is longer than a block, so each has one block of keys, where it has any query at all.
    assert mask.kv_num_blocks[:, 0, 0].tolist() == [1] * COUNT
    dense = mask.mask_mod(torch.arange(COUNT)[:, None, None], None, torch.arange(33)[:, None], torch.arange(65))
    for entry in range(COUNT):
        queries = min(33, int(counts[entry]))
        first = int(used[entry] - counts[entry]) + 1
        assert dense[entry, :queries].sum(1).tolist() == list(range(first, first + queries))


def test_blocks_beyond_a_prefills_own_place_are_not_computed() -> None:
    batch = PagedBatch(
        cu_seqlens_q=torch.tensor([0, 300, 301], dtype=torch.int32),
        seqused_k=torch.tensor([300, 1000], dtype=torch.int32),
        block_table=torch.zeros(2, 63, dtype=torch.int32),
        lengths=torch.tensor([[300, 300], [1, 1000]]),
        scale=1.0,
    )
    (part,) = torch_attention.parts(batch, 1)
    mask = torch_flex.block_mask(part)
    assert mask.kv_num_blocks[:, 0].tolist() == [[1, 2, 3], [8, 0, 0]]
    assert mask.seq_lengths == (300, 1000)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("attention_decode", "llama-2-7b/attention"),
        ("attention_prefill", "qwen3-8b/attention"),
        ("mla_decode", "deepseek-v3/mla"),
    ],
)
def test_a_verification_holds_about_as_much_memory_as_is_said_before(name: str, label: str) -> None:
    operator = operators()[name]
    shape = next(shape for shape in operator.shapes if shape.label == label)
    case = Case(arm="planted", operator=name, shape=shape, precision=Precision.parse("bf16"))
    count = operator.universe["cuda"]

    def zeros(q: Tensor, *_: object) -> Tensor:
        return q.new_zeros(*operator.result_shapes(shape, len(q))[0])

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    made = KernelUnderTest(case, operator, zeros, seed=0, universe=count, device=torch.device("cuda"))
    setting = Setting(count, sweep(count), longest=shape.tokens or 0)
    Verifier(made, 0).verify([relations()[name] for name in ("neighbour_length", "page_placement")], setting, [])
    expected = operator.verification_bytes(shape, case.precision, count)
    assert expected / 4 < torch.cuda.max_memory_allocated() < expected


# Latent attention.

LATENT = Shape(label="test", heads=2, kv_heads=1, k=576, page=16, tokens=33)


def latent(q: Tensor, cache: Tensor, batch: PagedBatch) -> Tensor:
    """The samebits kernel over the latent cache's keys and values."""
    return cpu_attention.attention(q, cache[:, :, None], cache[:, :, None, :512], batch)


def latent_tiles_by_the_longest(q: Tensor, cache: Tensor, batch: PagedBatch) -> Tensor:
    return tiles_by_the_longest(q, cache[:, :, None], cache[:, :, None, :512], batch)


def test_the_reference_of_latent_attention_is_attention_over_one_head() -> None:
    made = subject("mla_decode", latent, LATENT)
    everyone = make_batch(f"first:{COUNT}", COUNT)
    q, cache, batch = made.operator.arguments(made.gather(everyone), made.weights)
    assert batch.scale == pytest.approx(192**-0.5)
    exact = made.operator.reference(
        made.operator.inputs_of(torch.tensor(made.lines(everyone).ids), made.tables), made.weights
    )[0]
    for entry, (_, seen) in enumerate(batch.lengths.tolist()):
        vectors = cache[batch.block_table[entry].long()].flatten(0, 1)[:seen].double()
        logits = torch.einsum("hd,nd->hn", q[entry].double(), vectors) * batch.scale
        expected = logits.softmax(-1) @ vectors[:, :512]
        torch.testing.assert_close(exact[entry], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("text", ["bf16", "fp16"])
def test_latent_attention_keeps_its_bits_in_a_fixed_order_and_not_in_tiles_by_the_longest(text: str) -> None:
    kept = verify("mla_decode", latent, shape=LATENT, text=text)
    assert (kept.verdict, broken(kept)) == ("sampled", set())
    assert kept.accuracy is not None
    assert kept.accuracy.worst < 0.5
    tiled = verify("mla_decode", latent_tiles_by_the_longest, "neighbour_length", shape=LATENT, text=text)
    assert tiled.wrong == ""
    assert tiled.verdict == "variant"
    assert "neighbour_length" in broken(tiled)


@pytest.mark.parametrize("text", ["bf16", "fp16"])
def test_torchs_latent_attention_is_right(text: str) -> None:
    found = verify(
        "mla_decode", torch_attention.latent_attention, "batch_size", "unused_memory", shape=LATENT, text=text
    )
    assert found.wrong == ""


def test_latent_logits_stay_where_an_order_can_show() -> None:
    made = subject("mla_decode", latent, LATENT)
    q, cache, batch = made.operator.arguments(made.gather(make_batch(f"first:{COUNT}", COUNT)), made.weights)
    for entry, (_, seen) in enumerate(batch.lengths.tolist()):
        vectors = cache[batch.block_table[entry].long()].flatten(0, 1)[:seen].double()
        logits = torch.einsum("hd,nd->hn", q[entry].double(), vectors) * batch.scale
        assert logits.abs().max() < 40


def test_latent_bytes_are_one_vector_a_token() -> None:
    operator = operators()["mla_decode"].for_length(100)
    found = operator.bytes_moved(LATENT, Precision.parse("bf16"), 3)
    assert found == 2 * 3 * (100 * 576 + 2 * 576 + 2 * 512)
    assert operator.operations(LATENT, 3) == 2 * 3 * 100 * 2 * (576 + 512)


def test_triton_mlas_splits_follow_the_longest_sequence() -> None:
    assert [triton_mla.splits_of(keys, 132) for keys in (1, 512, 1023, 1024, 1537, 4097, 1 << 20)] == [
        1, 1, 1, 2, 4, 8, 264
    ]  # fmt: skip
