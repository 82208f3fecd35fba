"""Sliding windows, soft caps and sinks: the reference, honest arms, and kernels that let something else in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kernels_bench.arms import Kernel
from kernels_bench.arms.pytorch.calls.padded_attention import attention as padded_attention
from kernels_bench.arms.pytorch.flex_attention import FlexAttention
from kernels_bench.arms.samebits.cpu.attention import attention as cpu_attention
from kernels_bench.operators import operators
from kernels_bench.operators.attention import Attention
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.operators.paged.reference import Rules, allowed, attend, least_weight
from kernels_bench.operators.paged.variants import lengths_around
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.results import Verification
from kernels_bench.relations import Setting, make_batch, relations
from kernels_bench.relations.base import sweep
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.verifier import Verifier

CPU = torch.device("cpu")
MODES = ("decode", "prefill", "mixed")
COUNT = 5
SHAPES = {shape.label: shape for shape in operators()["attention_variant_decode"].shapes}
WINDOW, SOFTCAP, ALL = (SHAPES[f"small/{name}"] for name in ("window", "softcap", "all"))


def flex() -> Kernel:
    from torch.nn.attention.flex_attention import flex_attention

    return FlexAttention(flex_attention)


def subject(mode: str, kernel: Kernel, shape: Shape, text: str = "bf16") -> KernelUnderTest:
    name = f"attention_variant_{mode}"
    case = Case(arm="planted", operator=name, shape=shape, precision=Precision.parse(text))
    return KernelUnderTest(case, operators()[name], kernel, seed=0, universe=COUNT, device=CPU)


def verify(mode: str, kernel: Kernel, shape: Shape, *chosen: str) -> Verification:
    setting = Setting(
        COUNT, sweep(COUNT), longest=shape.tokens or 0, page=shape.page or 0, window=shape.window or 0
    )  # fmt: skip
    return Verifier(subject(mode, kernel, shape), 0).verify([relations()[name] for name in chosen], setting, [1])


def test_a_window_meets_lengths_around_its_own_and_those_of_tiles_after_it() -> None:
    assert {127, 128, 129, 144, 145, 192, 193, 256, 257, 4097} <= set(lengths_around(128, 4097))
    assert lengths_around(0, 4097) == ()
    operator = operators()["attention_variant_prefill"]
    assert isinstance(operator, Attention)
    assert operator.census(WINDOW, 4).kv[:4].tolist() == [25, 65, 24, 41]
    assert operator.with_lengths((7,)).census(WINDOW, 2).kv[:2].tolist() == [7, 25]


@pytest.mark.parametrize("shape", [WINDOW, ALL], ids=lambda shape: shape.label)
def test_the_reference_is_attention_written_out(shape: Shape) -> None:
    """Key by key of one query, in Python's own numbers."""
    made = subject("mixed", cpu_attention, shape)
    lines = torch.tensor(made.lines(make_batch("first:3", COUNT)).ids)
    inputs = made.operator.inputs_of(lines, made.tables)
    exact, queries = made.operator.reference(inputs, made.weights)[0], inputs[0]
    keys, values, *sinks = (one.double() for one in made.weights)
    for line in (0, len(lines) // 2, len(lines) - 1):
        row, token = made.operator.locate_row(int(lines[line]))
        assert token is not None
        page, heads = shape.page or 1, shape.heads or 1
        places = [(int(made.tables[1][row, t // page]), t % page) for t in range(token + 1)]
        for head in range(heads):
            kv_head = head // (heads // (shape.kv_heads or 1))
            weights: list[float] = []
            seen = places[-(shape.window or len(places)) :]
            for place in seen:
                logit = float(queries[line, head].double() @ keys[place][kv_head]) * shape.k**-0.5
                cap = shape.softcap
                weights.append(math.exp(cap * math.tanh(logit / cap) if cap else logit))
            total = sum(weights) + (math.exp(float(sinks[0][head])) if sinks else 0.0)
            shares = torch.tensor(weights, dtype=torch.float64) / total
            expected = shares @ torch.stack([values[place][kv_head] for place in seen])
            assert torch.allclose(exact[line, head], expected, rtol=1e-9, atol=1e-12)


# Of which FlexAttention leaves out whole blocks of keys.
MANY_BLOCKS = ALL.model_copy(update={"tokens": 290})


@pytest.mark.parametrize(
    ("make", "shape", "modes"),
    [
        *((lambda: cpu_attention, shape, MODES) for shape in (WINDOW, SOFTCAP, ALL)),
        (lambda: padded_attention, WINDOW, MODES),
        (flex, MANY_BLOCKS, ("mixed",)),
    ],
)
def test_honest_arms_are_right(make: Callable[[], Kernel], shape: Shape, modes: tuple[str, ...]) -> None:
    for mode in modes:
        found = verify(mode, make(), shape)
        assert found.wrong == "", mode
        assert found.accuracy is not None
        assert found.accuracy.worst > 0


def without(**changed: Any) -> Kernel:
    def kernel(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, batch: PagedBatch) -> torch.Tensor:
        return cpu_attention(q, keys, values, batch._replace(**changed))

    return kernel


@pytest.mark.parametrize(
    ("shape", "changed"),
    [
        (WINDOW, {"window": 0}),
        (WINDOW, {"window": 25}),
        (ALL, {"softcap": 0.0}),
        (ALL, {"sinks": None}),
        (SHAPES["gemma-2-9b/full"].model_copy(update={"tokens": 65, "heads": 2, "kv_heads": 1}), {"softcap": 0.0}),
    ],
)
def test_to_leave_out_what_the_shape_says_is_wrong(shape: Shape, changed: dict[str, Any]) -> None:
    assert "where float64 gives" in verify("decode", without(**changed), shape).wrong


def test_samebits_keeps_its_bits_in_chunks_by_decode_and_whatever_a_window_has_left_behind() -> None:
    for mode, shape in (("prefill", ALL), ("mixed", WINDOW)):
        chosen = ("neighbour_length", "chunking", "prefill_decode", "shared_pages", "before_window")
        found = verify(mode, cpu_attention, shape, *chosen)
        assert found.verdict == "sampled", [one for one in found.relations if one.status != "held"]
        assert any(one.relation == "before_window" and one.companies for one in found.relations)


def multiplied_by_zero(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, batch: PagedBatch) -> torch.Tensor:
    """Right, but what stands before the window is multiplied by a probability of zero."""
    found = cpu_attention(q, keys, values, batch)
    entries, page = batch.entry_of_queries(), keys.shape[1]
    seen = batch.seen_keys()
    for line, (entry, last) in enumerate(zip(entries.tolist(), seen.tolist(), strict=True)):
        for token in range(max(0, last - batch.window)):
            found[line] += 0 * values[batch.block_table[entry, token // page].long(), token % page].sum()
    return found


def test_a_kernel_that_reads_before_the_window_is_found_there_alone() -> None:
    found = verify("decode", multiplied_by_zero, WINDOW, "batch_size", "unused_memory", "before_window")
    assert {one.relation: one.status for one in found.relations} == {
        "batch_size": "held",
        "unused_memory": "held",
        "before_window": "broken",
    }
    sign = next(one.counterexample for one in found.relations if one.counterexample)
    assert sign.company.spec.startswith("behind:")


def test_what_is_before_the_window_is_exchanged_and_nothing_that_is_seen() -> None:
    made = subject("mixed", cpu_attention, WINDOW)
    window, page = WINDOW.window or 0, WINDOW.page or 1
    for tail in (0, 1):
        batch = make_batch(f"behind:{COUNT}:1:{tail}", COUNT)
        _, keys, _, told = made.operator.arguments(made.gather(batch), made.weights)
        plain = made.operator.arguments(made.gather(make_batch(f"first:{COUNT}", COUNT)), made.weights)
        changed = 0
        for entry, (queries, tokens) in enumerate(told.lengths.tolist()):
            first = max(0, tokens - queries + 1 - window) // page * page  # of a page that is seen, all stays
            for token in range(tokens):
                place = int(told.block_table[entry, token // page]), token % page
                before = int(plain[3].block_table[entry, token // page]), token % page
                if token < first:
                    assert bool(keys[place].isnan().all())
                    changed += 1
                else:
                    assert torch.equal(keys[place], plain[1][before])
        assert changed


def test_bytes_and_operations_are_those_of_the_keys_that_are_seen() -> None:
    operator = operators()["attention_variant_decode"].for_length(65)
    precision, token, query = Precision.parse("bf16"), 2 * 2 * 32, 4 * 32
    assert operator.bytes_moved(WINDOW, precision, 3) == 2 * 3 * (24 * token + 2 * query)
    assert operator.operations(WINDOW, 3) == 4 * 3 * 24 * query
    prefill = operators()["attention_variant_prefill"].for_length(65)
    assert prefill.operations(WINDOW, 1) == 4 * query * (sum(range(1, 25)) + 41 * 24)
    assert prefill.bytes_moved(WINDOW, precision, 1) == 2 * (65 * token + 65 * 2 * query)


def test_weights_that_fp16_holds_badly_beside_a_high_sink_are_allowed_for_and_no_more_is() -> None:
    """All unnormalised weights are below 6e-5 there, where fp16 has fewer bits: kernels lose them when they round."""
    generator = torch.Generator().manual_seed(0)
    lines, heads, n, d = 3, 2, 400, 16
    tokens = torch.tensor([50, 200, 399])
    keys, values = (torch.randn(1, n, d, generator=generator, dtype=torch.float64) for _ in range(2))
    queries = torch.randn(lines, heads, d, generator=generator, dtype=torch.float64) / d
    rules = Rules(sinks=torch.full((heads,), 15.0))
    exact = attend(queries, tokens, keys, values, rules)
    weights = (queries @ keys[0].T - 15.0).exp().masked_fill_(torch.arange(n) > tokens[:, None, None], 0.0)
    total = weights.sum(-1, keepdim=True) + 1.0

    def allowance(least: float) -> torch.Tensor:
        size = attend(queries, tokens, keys, values.abs(), rules, least)
        return allowed(queries.half(), size, exact, torch.float16, rules)

    rounded = (weights.half().double() @ values[0]) / total
    off = (rounded - exact).abs()
    assert bool((off <= allowance(least_weight(torch.float16))).all())
    assert bool((off > allowance(0.0)).any())
    dropped = attend(queries, tokens, keys, values.abs(), rules)  # what is lost where all of them count as zero
    assert bool((dropped > allowance(least_weight(torch.float16))).all())
    assert least_weight(torch.bfloat16) == 0.0
