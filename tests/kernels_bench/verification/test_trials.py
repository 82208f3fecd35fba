"""Many batches in one comparison: what it says of each is what a comparison of that batch alone says."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.operators import ResultRows
from kernels_bench.relations import Batch, Comparison, make_batch
from kernels_bench.verification.bitwise import difference
from kernels_bench.verification.subject.launched import LaunchResult
from kernels_bench.verification.trials import BrokenTrial, TrialGroup, align_rows

CPU = torch.device("cpu")
UNIVERSE = 9
SPECS = (
    "first:4",
    "last:3",
    "reverse:5",
    "shuffle:9:1",
    "others:6:1",
    "nan:5:0",
    "copies:3:7",
    "from:1:2",
    "pair:2:1:3",
)


def lines(batch: Batch) -> ResultRows:
    return ResultRows(batch.rows, batch.compared)


@dataclass(frozen=True)
class Launched:
    """Some batches' results, and the reference's.

    Attributes:
        group: all of them, compared at once.
        alone: each compared by itself.
        outputs: each one's results.
    """

    group: TrialGroup
    alone: list[TrialGroup]
    outputs: list[tuple[torch.Tensor, ...]]


@st.composite
def launches(draw: st.DrawFn) -> Launched:
    """Batches of one universe's rows, and deviations at random places of theirs, compared or not."""
    widths = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    of_rows = [torch.rand(UNIVERSE + 20, width, generator=torch.Generator().manual_seed(7)) for width in widths]
    whole = make_batch(f"first:{UNIVERSE}", UNIVERSE)
    reference = LaunchResult(whole, tuple(values[:UNIVERSE].clone() for values in of_rows), [])
    specs = draw(st.lists(st.sampled_from(SPECS), min_size=1, max_size=5))
    companies = [make_batch(spec, UNIVERSE) for spec in specs]
    outputs = []
    for company in companies:
        made = tuple(values[torch.from_numpy(company.rows.copy())] for values in of_rows)
        for _ in range(draw(st.integers(0, 2))):
            output = made[draw(st.integers(0, len(made) - 1))]
            place = draw(st.integers(0, output.numel() - 1))
            output.view(torch.int32).view(-1)[place] ^= 1 << draw(st.integers(0, 31))
        outputs.append(made)
    comparisons = [Comparison(whole.spec, spec) for spec in specs]
    together = tuple(torch.cat(parts) for parts in zip(*outputs, strict=True))
    group = TrialGroup.compare(
        comparisons, companies, reference, align_rows(lines(whole), tuple(map(lines, companies)), CPU), together
    )
    alone = [
        TrialGroup.compare([one], [company], reference, align_rows(lines(whole), (lines(company),), CPU), got)
        for one, company, got in zip(comparisons, companies, outputs, strict=True)
    ]
    return Launched(group, alone, outputs)


def told(trial: BrokenTrial) -> tuple[object, ...]:
    """All that is said of a difference."""
    found = difference(*trial.pair(trial.output))
    line = trial.part.start + (found.row if found is not None else 0)
    alignment = trial.group.alignment
    return (
        trial.comparison.company,
        trial.company.spec,
        trial.output,
        found,
        trial.ids.tolist(),
        int(alignment.ids[line]),
        int(alignment.expected_at[line]),
        int(alignment.got_at[line]),
        [output.view(torch.int32).tolist() for output in trial.outputs()],
    )


@given(launches())
def test_a_group_says_of_each_batch_what_is_said_of_it_alone(launched: Launched) -> None:
    group = launched.group
    broken = group.broken()
    each = [trial for one in launched.alone for trial in one.broken()]
    # As text, since a NaN is not equal to itself.
    assert repr([told(trial) for trial in broken]) == repr([told(trial) for trial in each])
    assert [trial.place for trial in broken] == [at for at, one in enumerate(launched.alone) if one.broken()]
    assert all(bool(flag) for flag in group.same) == (not broken)
    assert group.elements == sum(one.elements for one in launched.alone)
    for trial in broken:
        before = group.companies[trial.place - 1] if trial.place else group.reference.company
        assert trial.before == before.spec


@given(launches())
def test_just_those_differ_of_which_a_compared_row_does(launched: Launched) -> None:
    differing = []
    for place, (company, outputs) in enumerate(zip(launched.group.companies, launched.outputs, strict=True)):
        for position in company.compared.tolist():
            row = int(company.rows[position])
            expected = [values[row] for values in launched.group.reference.outputs]
            got = [values[position] for values in outputs]
            if any((a.view(torch.int32) != b.view(torch.int32)).any() for a, b in zip(expected, got, strict=True)):
                differing.append(place)
                break
    assert [trial.place for trial in launched.group.broken()] == differing


def test_what_the_reference_lacks_is_no_silent_agreement() -> None:
    few, more = (lines(make_batch(spec, UNIVERSE)) for spec in ("first:3", "first:4"))
    with pytest.raises(ValueError, match="does not have"):
        align_rows(few, (few, more), CPU)


def test_rows_that_follow_each_other_are_compared_where_they_lie() -> None:
    whole, part = (lines(make_batch(spec, UNIVERSE)) for spec in (f"first:{UNIVERSE}", "from:3:2"))
    aligned = align_rows(whole, (part,), CPU)
    assert (aligned.left, aligned.right) == (slice(2, 5), slice(0, 3))
    assert isinstance(align_rows(whole, (lines(make_batch("reverse:3", UNIVERSE)),), CPU).left, torch.Tensor)
