"""Classes, ranges and prices, from records that hypothesis makes."""

from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.console.errors import UsageError
from kernels_bench.plan.choose import LEAST_GAIN, NOT_READ, PROOF_COSTS, plan_case
from kernels_bench.plan.classes import classes_of, told_apart
from kernels_bench.plan.record import CasePlan
from kernels_bench.plan.weights import weights_of
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.results import FoundOrder, Order, RelationResult, SampleSummary, Timing, Verification

SIZES = (1, 4, 16, 256)
ARMS = ("torch", "a", "b", "c")


def case_of(arm: str) -> Case:
    return Case(arm=arm, operator="mm", shape=Shape(label="test", n=8, k=8), precision=Precision.parse("bf16"))


def verified(arm: str, bits: str = "x", order: str | None = "t", status: str = "held") -> Verification:
    found = (FoundOrder(digest=order, words=f"as {order}", sizes=SIZES),) if order else ()
    return Verification(
        case=case_of(arm),
        status="measured",
        relations=(RelationResult.model_validate({"relation": "batch_size", "status": status, "companies": 9}),),
        digests={m: f"{bits}{m}" for m in SIZES},
        universe=256,
        order=Order(status="proven" if order else "unknown", reason="" if order else "no time", found=found),
    )


def timed(arm: str, us: Mapping[int, float], error: float = 0.001) -> list[Timing]:
    def summary(median: float) -> SampleSummary:
        return SampleSummary(median_us=median, p10_us=median, p90_us=median, error=error, samples=50)

    return [
        Timing(case=case_of(arm), m=m, status="measured", warm=summary(each), cold=summary(2 * each))
        for m, each in us.items()
    ]


def flat(us: float) -> dict[int, float]:
    return dict.fromkeys(SIZES, us)


def even(sizes: tuple[int, ...] = SIZES) -> dict[int, float]:
    return weights_of("even", sizes)


times = st.dictionaries(st.sampled_from(ARMS), st.tuples(*[st.floats(1, 1000)] * len(SIZES)), min_size=1)
kernels = st.dictionaries(
    st.sampled_from(ARMS),
    st.tuples(st.sampled_from("xy"), st.sampled_from(["t", "u", None]), st.sampled_from(["held", "broken"])),
    min_size=1,
)


def planned(known: Mapping[str, tuple[str, str | None, str]], took: Mapping[str, tuple[float, ...]]) -> CasePlan:
    timings = [one for arm, us in took.items() if arm in known for one in timed(arm, dict(zip(SIZES, us, strict=True)))]
    return plan_case([verified(arm, *what) for arm, what in known.items()], timings, "torch", even())


@given(kernels)
def test_kernels_of_a_class_are_told_apart_by_nothing_and_none_of_them_varies(
    known: dict[str, tuple[str, str | None, str]],
) -> None:
    records = {arm: verified(arm, *what) for arm, what in known.items()}
    classes, left_out = classes_of(list(records.values()))
    placed = [arm for one in classes for arm in one.arms]
    assert sorted([*placed, *(one.arm for one in left_out)]) == sorted(known)
    assert {one.arm for one in left_out} == {arm for arm, (_, _, status) in known.items() if status == "broken"}
    for one in classes:
        for first in one.arms:
            assert not any(told_apart(records[first], records[other]) for other in one.arms)
        assert (one.basis == "proven") == all(known[arm][1] for arm in one.arms)
        assert one.digests == records[one.arms[0]].digests


@given(kernels, times)
def test_a_plan_is_of_one_class_and_has_one_kernel_for_every_m(
    known: dict[str, tuple[str, str | None, str]], took: dict[str, tuple[float, ...]]
) -> None:
    case = planned(known, took)
    if case.chosen is None:
        assert not case.stretches
        return
    assert {one.arm for one in case.stretches} <= set(case.chosen.arms)
    assert case.steady in case.chosen.arms
    assert (case.stretches[0].first, case.stretches[-1].last) == (1, None)
    for one, other in pairwise(case.stretches):
        assert one.last is not None
        assert one.last + 1 == other.first
        assert other.first in SIZES
        assert one.arm != other.arm
    for price in case.prices:
        assert price.arm == case.arm_at(price.m)
        factor = 2 if price.state == "cold" else 1
        assert price.planned_us == factor * took[price.arm][SIZES.index(price.m)]


@given(kernels, times)
def test_no_kernel_and_no_class_would_have_been_cheaper_beyond_the_least_gain(
    known: dict[str, tuple[str, str | None, str]], took: dict[str, tuple[float, ...]]
) -> None:
    case = planned(known, took)
    if case.mean is None or case.chosen is None:
        return
    for one in (case.chosen, *case.others):
        timed_arms = [took[arm] for arm in one.arms if arm in took]
        if not timed_arms:  # of the chosen class but for its order, which is not known
            continue
        least = 1.0
        for place, _ in enumerate(SIZES):
            least *= min(us[place] for us in timed_arms) / took["torch"][place]
        assert case.mean <= least ** (1 / len(SIZES)) / (1 - 2 * LEAST_GAIN) * (1 + PROOF_COSTS)


def test_a_change_of_kernel_that_noise_could_have_made_is_none() -> None:
    records = [verified("torch", "y", status="broken"), verified("a"), verified("b")]
    slightly = {**flat(100.0), 256: 99.0}
    case = plan_case(records, timed("torch", flat(80)) + timed("a", flat(100)) + timed("b", slightly), "torch", even())
    assert len(case.stretches) == 1
    wide = timed("a", flat(100), error=0.2) + timed("b", {**flat(120.0), 256: 80.0}, error=0.2)
    assert len(plan_case(records, timed("torch", flat(80)) + wide, "torch", even()).stretches) == 1
    narrow = timed("a", flat(100)) + timed("b", {**flat(120.0), 256: 80.0})
    case = plan_case(records, timed("torch", flat(80)) + narrow, "torch", even())
    assert [(one.first, one.last, one.arm) for one in case.stretches] == [(1, 255, "a"), (256, None, "b")]


def test_equal_digests_of_another_order_are_another_class() -> None:
    records = [verified("torch", order="t"), verified("a", order="u"), verified("b", order=None)]
    classes, _ = classes_of(records)
    assert [(one.arms, one.basis) for one in classes] == [(("torch", "b"), "sampled"), (("a",), "proven")]
    assert told_apart(records[0], records[1]) == "another order of addition"


def test_a_kernel_that_was_timed_with_other_bits_or_not_at_every_m_is_left_out() -> None:
    records = [verified("torch", "y"), verified("a"), verified("b", "z")]
    other = [one.model_copy(update={"other_bits": "its results differ"}) for one in timed("a", flat(1))]
    case = plan_case(records, timed("torch", flat(80)) + other + timed("b", {1: 1.0}), "torch", even())
    assert case.chosen is not None
    assert case.chosen.arms == ("torch",)
    assert {one.arm: one.reason for one in case.left_out} == {
        "a": "timed at M=1: its results differ", "b": "not timed at every M"
    }  # fmt: skip


def test_a_kernel_whose_timed_calls_gave_other_bits_at_one_m_is_used_at_none() -> None:
    records = [verified("torch"), verified("a"), verified("b")]
    a = timed("a", flat(1))
    a[-1] = a[-1].model_copy(update={"other_bits": "its results differ"})
    timings = [*timed("torch", flat(80)), *a, *timed("b", flat(2))]
    case = plan_case(records, timings, "torch", even(), today="a")
    assert [one.arm for one in case.stretches] == ["b"]
    assert [(one.arm, one.reason) for one in case.left_out] == [("a", "timed at M=256: its results differ")]
    assert case.today is not None
    assert not case.today.same_bits
    assert case.default_keeps
    assert not plan_case(records, timings, "a", even()).default_keeps


def test_without_times_of_the_default_kernel_there_is_a_plan_and_no_price() -> None:
    case = plan_case([verified("a"), verified("b")], timed("a", flat(3)) + timed("b", flat(2)), "torch", even())
    assert [one.arm for one in case.stretches] == ["b"]
    assert (case.mean, case.prices) == (None, ())


@pytest.mark.parametrize("name", ["even", "decode", "prefill"])
@given(sizes=st.sets(st.integers(1, 4096), min_size=1))
def test_weights_add_up_to_one_over_what_was_timed(name: str, sizes: set[int]) -> None:
    try:
        found = weights_of(name, sizes)
    except UsageError:
        assert name != "even"
        return
    assert set(found) == sizes
    assert sum(found.values()) == pytest.approx(1)
    assert all(weight >= 0 for weight in found.values())


def test_weights_of_a_file_count_for_the_nearest_m(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("weights") / "w.json"
    file.write_text('{"1": 1, "20": 2, "300": 1}')
    assert weights_of(str(file), SIZES) == {1: 0.25, 4: 0, 16: 0.5, 256: 0.25}
    for text in ("", "[]", "{}", '{"0": 1}', '{"x": 1}', '{"1": -1}', '{"1": true}', '{"1": 1e400}', '{"1": 0}'):
        file.write_text(text)
        with pytest.raises(UsageError, match="--weights"):
            weights_of(str(file), SIZES)


def test_kernels_that_may_not_be_chosen_are_compared_with_all_the_same() -> None:
    known = [verified("torch"), verified("a"), verified("b"), verified("c", bits="y")]
    timings = [one for arm, us in (("torch", 1.0), ("a", 3.0), ("b", 2.0), ("c", 1.5)) for one in timed(arm, flat(us))]
    found = plan_case(known, timings, "torch", even(), today="b", among={"a"})
    assert found.chosen is not None
    assert found.chosen.arms == ("a",)
    assert found.mean == pytest.approx(3.0)
    assert found.default_keeps
    assert found.today is not None
    assert found.today.same_bits
    assert found.today.mean == pytest.approx(1.5)
    assert found.today.us == flat(4.0)  # of the cold cache, which kernels are chosen by
    others = plan_case(known, timings, "torch", even(), today="b", among={"c"})
    assert others.today is not None
    assert not others.today.same_bits


def test_the_kernel_of_today_has_the_same_bits_where_nothing_tells_it_from_any_of_the_class() -> None:
    known = [verified("a", order=None), verified("b", order="t"), verified("c", order="u")]
    timings = [timing for arm, us in (("a", 5), ("b", 10), ("c", 10)) for timing in timed(arm, flat(us))]
    found = plan_case(known, timings, "torch", even(), today="c", among={"a", "b"})
    assert found.chosen is not None
    assert found.chosen.arms == ("a", "b")
    assert found.today is not None
    assert not found.today.same_bits


@pytest.mark.parametrize(("unread_us", "proven"), [(99.5, True), (98.5, False)])
def test_a_kernel_whose_order_is_not_known_must_save_more_than_a_proof_is_worth(unread_us: float, proven: bool) -> None:
    known = [verified("torch"), verified("a"), verified("b", order=None)]
    took = {"torch": flat(120), "a": flat(100), "b": flat(unread_us)}
    found = plan_case(known, [one for arm, us in took.items() for one in timed(arm, us)], "torch", even())
    assert found.chosen is not None
    if proven:
        assert (found.chosen.arms, found.chosen.basis) == (("torch", "a"), "proven")
        assert [(one.arms, one.basis) for one in found.others] == [(("b",), "sampled")]
        assert found.apart == (NOT_READ,)
        assert [one.arm for one in found.stretches] == ["a"]
    else:
        assert (found.chosen.arms, found.chosen.basis) == (("torch", "a", "b"), "sampled")


def test_of_sequences_a_kernel_is_chosen_by_all_lengths_alike_and_each_has_its_price() -> None:
    def at(length: int, **us: float) -> list[Timing]:
        return [one.model_copy(update={"length": length}) for arm, each in us.items() for one in timed(arm, {4: each})]

    timings = [*at(128, torch=10, a=10, b=16), *at(2048, torch=100, a=200, b=100)]
    case = plan_case([verified(arm) for arm in ("a", "b")], timings, "torch", even((4,)))
    # By their geometric means a takes 1.41 times as long as torch, and b 1.26 times.
    assert case.arm_at(4) == "b"
    cold = [(one.m, one.length, one.ratio) for one in case.prices if one.state == "cold"]
    assert cold == [(4, 128, 1.6), (4, 2048, 1.0)]
    assert case.mean == pytest.approx(1.6**0.5)
    # Where one length of a kernel is missing it has no time to be chosen by.
    case = plan_case([verified(arm) for arm in ("a", "b")], timings[:-1], "torch", even((4,)))
    assert case.arm_at(4) == "a"


def test_a_kernel_that_failed_while_it_was_timed_is_in_no_class() -> None:
    failed = Timing(case=case_of("b"), m=4, status="failed", reason="no answer within 60 s", cause="no_answer")
    timings = [*timed("a", flat(20)), *timed("b", {m: 10 for m in SIZES if m != failed.m}), failed]
    case = plan_case([verified("a"), verified("b")], timings, "torch", even())
    assert case.chosen is not None
    assert case.chosen.arms == ("a",)
    assert [(one.arm, one.reason) for one in case.left_out] == [
        ("b", "failed while it was timed at M=4: no answer within 60 s")
    ]


def test_equal_digests_of_candidates_that_say_unlike_orders_are_no_class() -> None:
    known = [verified(name, order=None) for name in ("a[x]", "a[y]", "a[z]", "b[x]")]
    said = {"a[x]": "1 part", "a[y]": "2 parts", "a[z]": "1 part", "b[x]": "in blocks"}
    classes, _ = classes_of(known, said)
    # Of another arm's words nothing follows; where orders were read, these count and no words.
    assert [one.arms for one in classes] == [("a[x]", "a[z]", "b[x]"), ("a[y]",)]
    timings = [timing for one in known for timing in timed(one.case.arm, flat(10))]
    planned = plan_case(known, timings, "torch", even(), today="a[y]", meant=said)
    assert planned.apart == ("it says that it adds in another order",)
    assert planned.today is not None
    assert not planned.today.same_bits, "what tells it from the class tells its bits from the plan's"
    both = [verified("a[x]"), verified("a[y]")]
    classes, _ = classes_of(both, said)
    assert [one.arms for one in classes] == [("a[x]", "a[y]")]
    # Of sequences an order is read at one length, and splits differ in longer ones alone.
    keys = Shape(label="test", heads=2, kv_heads=1, k=8, page=16, tokens=64)
    sequences = [one.model_copy(update={"case": one.case.model_copy(update={"shape": keys})}) for one in both]
    classes, _ = classes_of(sequences, said)
    assert [one.arms for one in classes] == [("a[x]",), ("a[y]",)]
