"""What pages say of the kept records of ``locate`` is what these say."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from e2e.locate.records import Cause, Located
from support import ROOT

KEPT = {file.stem: file for file in sorted((ROOT / "profiles" / "baselines" / "located").glob("*.json"))}
NORM = "_C.fused_add_rms_norm"
AGAINST, AGAINST_RANKS = "h200-smollm2-against-transformers", "h200-x2-qwen3-8b-against-tp2"


def located(name: str) -> Located:
    return Located.model_validate_json(KEPT[name].read_text(encoding="utf-8"))


def causes_of(name: str) -> tuple[Cause, ...]:
    found = located(name).causes
    assert found
    return found


@pytest.mark.parametrize("name", sorted(set(KEPT) - {AGAINST, AGAINST_RANKS}))
def test_a_kept_record_is_read_and_its_causes_explain_all(name: str) -> None:
    found = located(name)
    assert found.kept_bits
    assert found.probe_kept_bits
    # Of a compiled model the sampler beside other sequences than alone may be left out, once a step.
    assert found.unjudged <= (0 if found.options.eager else len(found.steps))


@pytest.mark.parametrize(
    "name",
    ["h200-smollm2-batch-invariant", "h200-qwen3-8b-batch-invariant", "h200-x2-qwen3-8b-tp2-batch-invariant"],
)
def test_batch_invariant_mode_is_broken_by_one_operator_alone(name: str) -> None:
    assert located(name).arm == "batch-invariant"
    assert {cause.operator for cause in causes_of(name)} == {NORM}
    assert all(cause.rows_equal == cause.rows for cause in causes_of(name))


def test_the_page_names_the_places() -> None:
    page = (ROOT / "docs" / "locate.md").read_text(encoding="utf-8")
    smollm2, qwen3, default = map(
        causes_of, ("h200-smollm2-batch-invariant", "h200-qwen3-8b-batch-invariant", "h200-qwen3-8b-baseline")
    )
    assert f"the same in {len(smollm2) - 2} more places, and in `model.norm`" in page
    assert [cause.layer for cause in qwen3] == [1, 3, 9]
    assert Counter(last_word(cause.path) for cause in default) == {"o_proj": 12, "down_proj": 12}
    for first, *_ in (smollm2, qwen3, default):
        place = rf"layer {first.layer}, `{last_word(first.path)}`: `{first.operator}`"
        assert re.search(rf"{place}, {first.rows_differ} rows? of {first.rows}", page)


def test_the_page_names_the_places_over_two_ranks() -> None:
    page = (ROOT / "docs" / "locate.md").read_text(encoding="utf-8")
    invariant, default = (located(f"h200-x2-qwen3-8b-tp2-{mode}") for mode in ("batch-invariant", "baseline"))
    for found in (invariant, default):
        first, replayed = found.first, found.replayed
        assert first is not None
        assert replayed is not None
        assert (found.options.tp_size, first.ranks, found.kept_bits) == (2, (), True)
        row = (
            f"layer {first.layer}, `{last_word(first.path)}`: `{first.operator}`, "
            f"{first.rows_differ} rows? of {first.rows}"
            rf" \| rows of the call, between {replayed.same} and {replayed.other} "
        )
        assert re.search(row, page)
    assert [cause.layer for cause in invariant.causes or ()] == [1, 3, 8]
    assert Counter(last_word(cause.path) for cause in default.causes or ()) == {"qkv_proj": 12, "down_proj": 12}


def test_attention_that_broke_on_a_gpu_was_run_alone_and_follows_what_its_neighbour_computes() -> None:
    found = located("h200-smollm2-compiled-batch-invariant").replayed
    assert found is not None
    assert found.neighbour is not None
    at = found.neighbour
    page = (ROOT / "docs" / "locate.md").read_text(encoding="utf-8")
    assert (found.unit, at.unit) == ("sequences", "queries")
    assert f"of which the step computes {at.queries}; with {at.same} computed they stay, with {at.other} they" in page
    assert (found.same, found.other) == (12, 13)
    # Three query heads share one of keys and values: FlashAttention 3 takes another tile above 64 rows of queries.
    assert 3 * (at.same or 0) <= 64 < 3 * (at.other or 0)


def test_the_page_says_where_an_engine_on_two_gpus_parts_from_one_on_one() -> None:
    found, first = located(AGAINST_RANKS), located(AGAINST_RANKS).first
    assert found.against is not None
    assert first is not None
    assert (found.against.name, first.layer, last_word(first.path)) == ("tp=2", 0, "self_attn")
    page = " ".join((ROOT / "docs" / "locate.md").read_text(encoding="utf-8").split())
    assert (
        f"parts there too, in {first.rows_differ} rows of {first.rows}, by {100 * (first.distance or 0):.2g} %" in page
    )


def test_the_page_names_the_places_in_compiled_engines() -> None:
    page = (ROOT / "docs" / "locate.md").read_text(encoding="utf-8")
    attention, parts = causes_of("h200-smollm2-compiled-batch-invariant"), causes_of("h200-qwen3-8b-compiled-baseline")
    assert {cause.operator for cause in attention} == {"FlashAttentionImpl.forward"}
    assert {cause.layer for cause in attention} == {*range(30)}
    assert (attention[0].step_kind, attention[0].step) == ("decode", 2)
    assert (
        "second decode step, layer 0: `FlashAttentionImpl.forward`, 1 row of 1 | the same in the 29 other layers"
        in page
    )
    assert {cause.kind for cause in parts} == {"compiled"}
    attn = "model.layers.{}.self_attn.attn".format
    between = [f"compiled part from {attn(layer)} to {attn(layer + 1)}" for layer in range(11)]
    assert {cause.operator for cause in parts} == {*between, f"compiled part from {attn(11)}"}
    assert (parts[0].rows_differ, parts[0].rows) == (5, 5)


def last_word(path: str) -> str:
    return path.rpartition(".")[2]


def test_the_page_says_where_an_engine_on_a_gpu_parts_from_transformers() -> None:
    found, first = located(AGAINST), located(AGAINST).first
    assert found.against is not None
    assert first is not None
    assert (found.unjudged, first.layer, last_word(first.path)) == (len(found.steps), 0, "input_layernorm")
    page = " ".join((ROOT / "docs" / "locate.md").read_text(encoding="utf-8").split())
    assert first.rows == first.rows_equal
    assert f"in {first.rows_differ} rows of {first.rows}, and by itself in every norm" in page
    places = {last_word(cause.path) for cause in causes_of(AGAINST)}
    assert places == {"input_layernorm", "post_attention_layernorm", "norm", "rotary_emb", "attn"}
