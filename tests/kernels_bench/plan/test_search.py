"""Which candidates a rough timing leaves to be tried."""

import pytest

from kernels_bench.plan.search import finalists, left_out
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.results import Rough

SIZES = (1, 256, 4096)


def times(**us: tuple[float, float, float]) -> dict[str, dict[int, float]]:
    return {name: dict(zip(SIZES, known, strict=True)) for name, known in us.items()}


def test_one_order_s_candidates_are_taken_as_far_as_each_is_a_gain() -> None:
    known = times(small=(10, 40, 400), large=(40, 20, 97), both=(11, 21, 101), none=(50, 60, 500))
    # `both` is the best alone; `small` and then `large` are a gain of more than a hundredth each in the mean.
    assert finalists(known, dict.fromkeys(known, "one"), most=8) == ("both", "small", "large")
    assert finalists(known, dict.fromkeys(known, "one"), most=1) == ("both",)
    assert "none" not in finalists(known, dict.fromkeys(known, "one"), most=8)


def test_what_is_fast_at_one_m_is_of_no_use_without_others_of_its_order() -> None:
    # The split is the fastest at M=1 and far behind everywhere else: no plan would be of its class.
    known = times(plain=(12, 20, 100), split=(10, 60, 900))
    orders = {"plain": "one part", "split": "8 parts"}
    assert finalists(known, orders, most=8) == ("plain",)
    # With a partner of its order it is.
    known |= times(split_large=(90, 20, 100))
    assert {*finalists(known, orders | {"split_large": "8 parts"}, most=8)} == {"split", "plain", "split_large"}


def test_where_few_may_go_on_they_are_of_one_order() -> None:
    known = times(small=(10, 40, 400), large=(40, 20, 97), split_small=(9, 45, 500), split_large=(44, 20, 99))
    orders = {"small": "one part", "large": "one part", "split_small": "2 parts", "split_large": "2 parts"}
    (first, second) = finalists(known, orders, most=2)
    assert orders[first] == orders[second]


@pytest.mark.parametrize("weights", ["decode", "prefill"])
def test_an_order_that_is_best_by_other_weights_is_tried_too(weights: str) -> None:
    known = times(small=(10, 30, 400), large=(15, 31, 100))
    by_itself = {"small": "one", "large": "other"}
    chosen = finalists(known, by_itself, most=8)
    assert {"decode": "small", "prefill": "large"}[weights] in chosen


def test_nothing_to_choose_from_is_nothing() -> None:
    assert finalists({}, {}, most=8) == ()


def test_what_was_left_out_is_told_with_how_much_slower_it_was() -> None:
    def rough(arm: str, us: dict[int, float], status: str = "measured", reason: str = "") -> Rough:
        case = Case(arm=arm, operator="mm", shape=Shape(label="s", k=8, n=8), precision=Precision.parse("bf16"))
        return Rough.model_validate({"case": case, "status": status, "reason": reason, "us": us})

    roughs = [
        rough("a[x]", {1: 10.0, 16: 20.0}),
        rough("a[y]", {1: 31.0, 16: 100.0}),
        rough("a[z]", {1: 10.1, 16: 21.0}),
        rough("a[w]", {}, "failed", "out of resource"),
    ]
    found = {one.arm: one for one in left_out(roughs, ["a[x]"])}
    assert found["a[y]"].reason == (
        "slower at every M tried: roughly 3.10 times the fastest at best (M=1), 5.00 at worst"
    )
    assert found["a[y]"].slower == pytest.approx(3.1)
    assert found["a[z]"].reason.startswith("of its order of addition others do as well: roughly 1.01 times")
    assert (found["a[w]"].reason, found["a[w]"].slower) == ("failed: out of resource", None)
    assert "a[x]" not in found
