"""What is written of a range is what is read of it, and the messages are those that older reports hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.instruments.range_names import BatchRange, EngineRange, TimedRange, phase, reading_order, verifying

WORDS = st.text(st.characters(categories=["Ll", "Lu", "Nd"], include_characters="-_.: "), min_size=1)


@given(st.builds(TimedRange, WORDS, WORDS, WORDS, WORDS, WORDS))
def test_a_timed_range_is_read_as_it_was_written(one: TimedRange) -> None:
    assert TimedRange.read(one.message) == TimedRange.read(one.warm_up) == one
    assert BatchRange.read(one.message) is None


@given(st.lists(WORDS, min_size=1, max_size=4).map("/".join), WORDS, st.sampled_from(["eager", "graph"]))
def test_a_batchs_range_is_read_as_it_was_written(case: str, spec: str, launch: str) -> None:
    one = BatchRange(case, spec, launch)
    assert BatchRange.read(one.message) == one


@given(st.sampled_from(["trial", "warm-up", "staggered", "prefill", "decode"]), WORDS, st.integers(-9, 10**9))
def test_an_engines_range_is_read_as_it_was_written(category: str, arm: str, number: int) -> None:
    one = EngineRange(category, arm, number)
    assert EngineRange.read(one.message) == one


@given(st.text())
def test_any_other_message_is_none_of_them_and_nothing_is_raised(message: str) -> None:
    for kind in (TimedRange, BatchRange, EngineRange):
        found = kind.read(message)
        assert found is None or found.message == message.removeprefix("warm-up/")


def test_the_messages_are_those_that_reports_hold() -> None:
    timed = TimedRange("torch", "mm", "4096x12288", "bf16:fp32", "16x2048")
    assert timed.message == "torch/mm/4096x12288,bf16:fp32/16x2048"
    assert timed.warm_up == "warm-up/torch/mm/4096x12288,bf16:fp32/16x2048"
    batch = BatchRange("torch/mm/4096x12288/bf16", "first:16", "graph")
    assert batch.message == "company/torch/mm/4096x12288/bf16/first:16/graph"
    assert EngineRange("decode", "batch-invariant", -2).message == "decode/batch-invariant/-2"
    assert (verifying("a/b"), reading_order("a/b"), phase("alone", "serial")) == (
        "verify/a/b",
        "order/a/b",
        "alone/serial",
    )


@pytest.mark.parametrize(
    "message", ["", "company/", "company/a", "trial/", "trial/a", "trial/a/b", "trial/a/07", "replay", "ceiling"]
)
def test_what_is_cut_off_is_no_range_of_ours(message: str) -> None:
    assert BatchRange.read(message) is None
    assert EngineRange.read(message) is None
    assert TimedRange.read(message) is None
