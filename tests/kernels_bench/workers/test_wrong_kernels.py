"""Kernels that are wrong: each is called so, and the right ones are not."""

from __future__ import annotations

import pytest

from support.processes import Faulty, run_beside


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Faulty:
    what = ("--batch", "4", "--relation", "repeat,batch_size")
    return run_beside("samebits", tmp_path_factory.mktemp("wrong"), "wrong", range(64, 71), *what)


@pytest.mark.parametrize(
    ("k", "said"),
    [
        (64, "writes into its rows"),
        (65, "writes into its weights"),
        (66, "nan where float64 gives"),
        (67, "where float64 gives"),
        (68, "never written"),
    ],
)
def test_a_wrong_kernel_is_called_wrong(wrong: Faulty, k: int, said: str) -> None:
    found = wrong.verification("wrong", k)
    assert found.verdict == "wrong"
    assert said in found.wrong
    assert "\n" not in found.wrong
    assert wrong.timing("wrong", k).status == "skipped"


def test_one_bit_in_one_batch_size_is_variance(wrong: Faulty) -> None:
    found = wrong.verification("wrong", 69)
    assert found.verdict == "variant"
    assert found.counterexample is not None
    assert (found.counterexample.row, found.counterexample.index, found.counterexample.elements) == (2, 5, 1)
    assert (found.counterexample.ulp, found.counterexample.company.size) == (1, 4)
    assert wrong.timing("wrong", 69).status == "measured"


def test_beside_wrong_kernels_the_right_one_is_right(wrong: Faulty) -> None:
    assert wrong.verification("wrong", 70).verdict == "sampled"
    assert wrong.verification("wrong", 70).digests == wrong.verification("samebits", 70).digests
    for k in wrong.lengths:
        assert wrong.verification("samebits", k).verdict == "sampled"
        assert wrong.timing("samebits", k).status == "measured"


def test_what_is_wrong_is_status_1(wrong: Faulty) -> None:
    assert wrong.ended.status == 1
    assert wrong.left == []
