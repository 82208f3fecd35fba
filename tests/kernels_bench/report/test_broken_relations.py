"""Where relations broke, in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.records.cases import Shape
from kernels_bench.records.results import RelationResult
from kernels_bench.report.summary.broken_relations import broken_relations, numbers, where
from support.records import broken, case, held, verified

HEADS = Shape(label="gemma-2-9b/attention", heads=16, kv_heads=8, k=256, page=16, tokens=4097)


def at(*companies: str, relation: str = "batch_size") -> RelationResult:
    return broken(relation=relation).model_copy(update={"broken": companies})


@pytest.mark.parametrize(
    ("companies", "said"),
    [
        (("first:1", "first:2"), "M=1, 2"),
        (("first:1", "first:2", "first:3", "last:1025"), "M=1 to 1,025; other rows first"),
        (("prefilling:5:129:3", "prefilling:5:511:0"), "M=5; neighbours prefill 129, 511"),
        (("decoding:2:1:0", "prefilling:9:64:1"), "M=2, 9; neighbours decode at KV length 1; neighbours prefill 64"),
        (("chunks:8:16", "chunks:8:64"), "M=8; chunks of 16, 64"),
        (("tails:2",), "M=2; last token by decode"),
        (("placed:4:1", "placed:4:2"), "M=4; pages elsewhere"),
        (("huge:8:0", "others:8:1"), "M=8; huge neighbours; other neighbours"),
    ],
)  # fmt: skip
def test_companies_are_said_in_words(companies: tuple[str, ...], said: str) -> None:
    assert where(companies) == said


@given(st.sets(st.integers(1, 1 << 20), min_size=1))
def test_many_numbers_are_said_by_their_ends(chosen: set[int]) -> None:
    ascending = sorted(chosen)
    said = numbers(ascending)
    assert said.startswith(f"{ascending[0]:,}")
    assert said.endswith(f"{ascending[-1]:,}")
    assert ("to" in said) == (len(ascending) > 3)


def test_each_relation_is_told_with_its_cases_and_where_it_broke() -> None:
    here = verified(case("a"), at("first:1"), held("position"))
    there = verified(case("a", shape=HEADS), at("first:2", "first:4"), at("tails:2", relation="prefill_decode"))
    whole = verified(case("a", dtype="fp16"), held("batch_size"))
    batch, decode = broken_relations([here, there, whole])
    assert (batch.relation, batch.examined, batch.where) == ("batch_size", 3, "M=1, 2, 4")
    assert batch.by_case == {"qwen3-8b/o_proj bf16": "M=1", "gemma-2-9b/attention bf16": "M=2, 4"}
    assert (decode.relation, decode.examined, decode.where) == ("prefill_decode", 1, "M=2; last token by decode")


def test_what_held_or_was_not_examined_is_no_breakage() -> None:
    unsupported = RelationResult(relation="graph", status="unsupported", reason="needs a CUDA device")
    doubtful = at("first:1").model_copy(update={"status": "inconclusive", "reason": "not repeatable"})
    assert broken_relations([verified(case("a"), held(), unsupported, doubtful)]) == ()


def test_a_result_that_lists_no_companies_is_told_by_its_counterexample() -> None:
    assert broken_relations([verified(case("a"), broken(16))])[0].where == "M=16"
