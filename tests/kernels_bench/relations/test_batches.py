"""Batches: each kind's rows against what its description says, and specs against what they are made of."""

import re
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.relations import make_batch
from kernels_bench.relations.batch import FIRST_SPECIAL, HOSTILE, LONG_NEIGHBOUR, SPECIAL, UNUSED, Serving
from kernels_bench.relations.batch_kinds import batch_kinds
from kernels_bench.relations.spec import BatchSpec

UNIVERSE = 12
WORDS = st.text("aghotz_", min_size=1, max_size=12)
NUMBERS = st.integers(0, 1 << 40)


@given(WORDS, NUMBERS, st.lists(NUMBERS, max_size=3))
def test_a_spec_is_read_as_it_is_written(kind: str, size: int, arguments: list[int]) -> None:
    spec = BatchSpec(kind, size, tuple(arguments))
    assert BatchSpec.parse(str(spec)) == spec
    assert str(BatchSpec.parse(str(spec))) == str(spec)


@given(st.text("first:.0127", max_size=12))
def test_what_is_no_spec_is_refused_by_name(text: str) -> None:
    kind, *numbers = text.split(":")
    readable = numbers and all(number.isdecimal() for number in numbers)
    with nullcontext() if readable else pytest.raises(ValueError, match=re.escape(repr(text))):
        spec = BatchSpec.parse(text)
        assert (spec.kind, (spec.size, *spec.arguments)) == (kind, tuple(map(int, numbers)))


# Spec, its rows in a universe of twelve, and the positions that are compared where these are not all.
ROWS: dict[str, tuple[list[int], list[int] | None]] = {
    "first:3": ([0, 1, 2], None),
    "last:3": ([9, 10, 11], None),
    "from:4:10": ([10, 11, 0, 1], None),
    "pair:2:10:3": ([10, 1], None),
    "copies:3:7": ([7, 7, 7], None),
    "cycled:14": ([*range(11), 0, 1, 2], None),  # 11 is the largest prime up to 12
    "reverse:4": ([3, 2, 1, 0], None),
    "rotate:5:2": ([3, 4, 0, 1, 2], None),
    "others:6:1": ([7, 1, 9, 10, 11, 5], [1, 5]),
    "huge:5:0": ([0, 12, 12, 12, 4], [0, 4]),
    "inf:3:2": ([13, 13, 2], [2]),
    "nan:3:2": ([14, 14, 2], [2]),
    "zero:3:2": ([15, 15, 2], [2]),
    "padded:4:2": ([0, 1, 15, 15], [0, 1]),
    "among:4:13:0": ([16, 16, 1, 16], [2]),
    "among:4:13:5": ([16, 16, 1, 16], [2]),
    "short:5:3": ([0, 1, 2, 0, 1], None),
    "routed:6:1": ([16, 16, 16, 16, 16, 5], [5]),
    "routed:6:2": ([0, 16, 16, 16, 16, 5], [0, 5]),
    "routed:3:3": ([0, 5, 10], [0]),
    "special:1:3": ([UNIVERSE + FIRST_SPECIAL + 3], None),
    "special:2:11": ([UNIVERSE + FIRST_SPECIAL + 12, UNIVERSE + FIRST_SPECIAL + 11], None),
    "rare:3:4": (3 * [UNIVERSE + FIRST_SPECIAL + 4], None),
    "decoding:3:7:1": ([16, 1, 16], [1]),
    "prefilling:3:7:1": ([16, 1, 16], [1]),
    "placed:3:2": ([0, 1, 2], None),
    "unused:3:1": ([0, 1, 2], None),
    "apart:3:2": ([0, 1, 2], None),
    "shared:3:2": ([0, 1, 2], None),
    "siblings:4:2": ([16, 16, 0, 16], [2]),
    "cousins:2:1": ([16, 0], [1]),
    "far:3": ([0, 1, 2], None),
    "chunks:3:7": ([0, 1, 2], None),
    "tails:3": ([0, 1, 2], None),
    "ends:3:4": ([0, 1, 2], None),
    "alike:5:1": ([5, 1, 1, 5, 9], [1]),
    "common:5:3": ([3, 3, 3, 3, 3], [0]),
    "two:8:1:4:7:8": ([1, 1, 1, 1, 1, 1, 1, 4], [0, 7]),
    "three:8:1:4:7:8": ([1, 0, 2, 3, 5, 6, 7, 4], [0, 7]),
    "every:5:4:1": ([1, 5, 9, 1, 5], None),
    "every:3:5:4": ([4, 9, 4], None),
    "long:5:3": ([11, 10, 9, 11, 10], None),
    "lone:5:3": ([0, 1, 11, 0, 1], None),
    "leading:4:2": ([11, 1, 0, 1], None),
    "trailing:4:2": ([0, 1, 0, 11], None),
    "twice:5": ([0, 0, 1, 1, 2], None),
    "twins:4": ([0, 1, 2, 3], None),
    "cached:3:2": ([0, 1, 2], None),
    "parts:2:8": ([UNIVERSE + FIRST_SPECIAL, UNIVERSE + FIRST_SPECIAL + 1], None),
    "drafts:14:6": ([*range(11, 5, -1), *range(11, 5, -1), 11, 10], None),
    "unequal:3:3": ([11, 10, 9], None),
    "behind:3:2:1": ([0, 1, 2], None),
    "tp:3:4": ([0, 1, 2], None),
}
SERVED = {
    "decoding:3:7:1": Serving(stranger=7),
    "prefilling:3:7:1": Serving(stranger=7, prefilling=True),
    "placed:3:2": Serving(placement=2),
    "among:4:13:0": Serving(equal=True),
    "among:4:13:5": Serving(stranger=5),
    "short:5:3": Serving(shortest=True),
    "unused:3:1": Serving(unused=1),
    "apart:3:2": Serving(prefix=2),
    "shared:3:2": Serving(prefix=2, shared=True),
    "siblings:4:2": Serving(prefix=2, shared=True, equal=True),
    "cousins:2:1": Serving(prefix=1, equal=True),
    "far:3": Serving(far=True),
    "behind:3:2:1": Serving(behind=2, tail=1),
    "tp:3:4": Serving(ranks=4),
    "chunks:3:7": Serving(chunk=7),
    "tails:3": Serving(tail=1),
    "ends:3:4": Serving(tail=4),
    "long:5:3": Serving(shortest=True),
    "lone:5:3": Serving(shortest=True),
    "leading:4:2": Serving(shortest=True),
    "trailing:4:2": Serving(shortest=True),
    "twins:4": Serving(paired=True),
    "cached:3:2": Serving(prefix=2, shared=True, cached=True),
    "parts:2:8": Serving(chunk=8),
    "drafts:14:6": Serving(shortest=True, tail=6),
    "unequal:3:3": Serving(shortest=True, tail=3, unequal=True),
}


@pytest.mark.parametrize("spec", ROWS)
def test_a_batch_holds_the_rows_that_its_kind_says(spec: str) -> None:
    made = make_batch(spec, UNIVERSE)
    rows, compared = ROWS[spec]
    assert made.rows.tolist() == rows
    assert made.compared.tolist() == (list(range(len(rows))) if compared is None else compared)
    assert made.serving == SERVED.get(spec, Serving())
    assert (made.spec, made.size) == (spec, len(rows))
    assert made is make_batch(spec, UNIVERSE)
    with pytest.raises(ValueError, match="read-only"):
        made.rows[0] = 1


def test_each_kind_is_among_them() -> None:
    told = {spec.partition(":")[0] for spec in ROWS}
    assert told == {*batch_kinds()} - {"shuffle"}
    assert make_batch("decoding:3:7:1", UNIVERSE).rows[0] == UNIVERSE + LONG_NEIGHBOUR
    contagious = {"unused:3:1", "behind:3:2:1", "parts:2:8"}
    assert {spec for spec in SERVED if make_batch(spec, UNIVERSE).contagious} == contagious
    assert all(make_batch(f"{kind}:3:2", UNIVERSE).contagious == (kind != "zero") for kind in HOSTILE)


@given(st.integers(1, 40), st.integers(0, 1000), st.integers(1, 40))
def test_special_rows_are_spread_and_all_of_them_compared(size: int, first: int, universe: int) -> None:
    made = make_batch(f"special:{size}:{first}", universe)
    special = [row - universe - FIRST_SPECIAL for row in made.rows[made.compared].tolist()]
    count = min(size, len(SPECIAL))
    assert sorted(special) == sorted((first + n) % len(SPECIAL) for n in range(count))
    ordinary = np.delete(np.arange(size), made.compared)
    assert made.rows[ordinary].tolist() == (ordinary % universe).tolist()
    gaps = np.diff(np.append(made.compared, made.compared[0] + size))
    assert gaps.min() >= size // count


@given(st.integers(1, 300), st.integers(1, 900))
def test_rows_begin_anew_after_a_prime_number_of_them(universe: int, size: int) -> None:
    primes = [n for n in range(1, universe + 1) if all(n % divisor for divisor in range(2, n))]
    assert make_batch(f"cycled:{size}", universe).rows.tolist() == [m % primes[-1] for m in range(size)]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("pair:3:1:1", "two rows"),
        ("unused:3:0", "below 1"),
        (f"unused:3:{len(UNUSED)}", f"one of {len(UNUSED) - 1} things"),
        ("chunks:3:0", "below 1"),
        ("decoding:3:0:1", "without tokens"),
        ("first:13", "universe's 12 rows"),
        ("far:13", "universe's 12 rows"),
        ("siblings:1:2", "or with nobody"),
        ("routed:3:4", "C must be between 1 and M"),
        ("routed:3:0", "C must be between 1 and M"),
        ("cycled:0", "M must be between 1"),
        ("special:0:0", "M must be between 1"),
        ("cycled:3:1", "wrong number of arguments"),
    ],
)
def test_what_cannot_be_says_why(spec: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make_batch(spec, UNIVERSE)
