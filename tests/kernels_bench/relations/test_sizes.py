"""At which M relations look where there is time for more, and what they try there."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.relations import Comparison, Setting, make_batch, relations
from kernels_bench.relations.base import EVERY, FURTHER, TILES, dense_sweep, spread, sweep
from kernels_bench.relations.batch import KINDS_OF_ROWS, SPECIAL
from kernels_bench.relations.surroundings import AROUND
from kernels_bench.verification.verifier import SEEDS_APART

UNIVERSES = (1, 2, 3, 5, 17, 130, 400)


@given(st.integers(1, 6000))
def test_every_small_m_is_tried_and_beyond_them_whole_tiles_and_others(universe: int) -> None:
    dense = dense_sweep(universe)
    assert dense == tuple(sorted({*dense}))
    assert dense[: min(EVERY, universe)] == tuple(range(1, min(EVERY, universe) + 1))
    assert dense[-1] <= universe
    for tile in TILES:
        begun = tile * (EVERY // tile) * 2
        assert universe <= begun or {begun, begun + 1} <= {*dense}
    beyond = {m for m in dense if m > EVERY}
    of_tiles = {m for m in beyond if any(m % tile in (0, 1) for tile in TILES)}
    assert len(beyond - of_tiles) <= FURTHER
    if universe >= 4 * EVERY:
        assert len(beyond - of_tiles) >= FURTHER // 2
        # In each quarter of the range, on the scale of its logarithm.
        for quarter in range(4):
            low, high = (EVERY * (universe / EVERY) ** (end / 4) for end in (quarter, quarter + 1))
            assert any(low <= m <= high for m in beyond - of_tiles)


@given(st.integers(1, 3000), st.integers(1, 60))
def test_few_of_many_are_spread_over_all(count: int, wanted: int) -> None:
    picks = spread(count, wanted)
    assert len(picks) == len({*picks}) == min(wanted, count)
    assert all(0 <= pick < count for pick in picks)
    if wanted > 1:
        assert {0, count - 1} <= {*picks}
    if wanted >= 4 and count > wanted:
        gaps = [b - a for a, b in zip(sorted(picks), sorted(picks)[1:], strict=False)]
        assert max(gaps) <= 1 + 3 * count / wanted


def settings_of(universe: int) -> list[Setting]:
    """Of rows, and of sequences."""
    return [
        Setting(universe, sweep(universe), most=4 * universe, every=8, huge=3 * universe),
        Setting(universe, sweep(universe), most=4 * universe, longest=300, page=16, far=True),
    ]


@pytest.mark.parametrize("universe", UNIVERSES)
@pytest.mark.parametrize("name", relations())
def test_what_is_tried_as_far_as_there_is_time_can_be_compared(name: str, universe: int) -> None:
    """Every row that is compared stands in the reference, in further comparisons and over other data too."""
    relation = relations()[name]
    for setting in settings_of(universe):
        if setting.longest and not relation.applies_to("prefills"):
            continue
        drawn = [one for number in (1, 2, 77) for one in relation.drawn(number, setting)]
        tried = dict.fromkeys([*relation.comparisons(setting), *relation.more(setting), *drawn])
        for one in tried:
            reference, company = make_batch(one.reference, universe), make_batch(one.company, universe)
            assert {*company.rows[company.compared].tolist()} <= {*reference.rows.tolist()}, one
            assert len({*reference.rows.tolist()}) == reference.size, one
            assert company.size <= max(universe, setting.most, setting.huge), one
            assert one.before is None or all(make_batch(spec, universe) for spec in one.before)


def _specs(comparisons: Iterable[Comparison], universe: int) -> list[tuple[str, int]]:
    return [(one.company, make_batch(one.company, universe).size) for one in comparisons]


@pytest.mark.parametrize("universe", [130, 400])
def test_every_rare_row_stands_at_every_place_once_at_each_of_a_few_sizes(universe: int) -> None:
    setting, relation = Setting(universe, sweep(universe), most=universe), relations()["special_values"]
    tried = [spec for spec, _ in _specs(relation.comparisons(setting), universe) if spec.startswith("rare")]
    more = [spec for spec, _ in _specs(relation.more(setting), universe) if spec.startswith("rare")]
    assert {int(spec.split(":")[2]) for spec in tried} == {*range(len(SPECIAL))}
    assert len({spec.split(":")[1] for spec in tried}) == 1
    assert sorted([*tried, *more]) == sorted({*tried, *more})
    assert {int(spec.split(":")[1]) for spec in (*tried, *more)} == {*setting.few}


@pytest.mark.parametrize("universe", [130, 400])
def test_more_time_tries_every_m_up_to_some_hundreds(universe: int) -> None:
    setting = Setting(universe, sweep(universe), most=universe)
    dense = {*dense_sweep(universe)}
    for name in ("batch_size", "special_values", "layout", "history"):
        relation = relations()[name]
        # One rare row at every place is looked at by itself.
        tried = {m for spec, m in _specs(relation.comparisons(setting), universe) if not spec.startswith("rare")}
        more = [m for spec, m in _specs(relation.more(setting), universe) if not spec.startswith("rare")]
        assert {*more} | tried >= dense - ({universe} if name == "batch_size" else set()), name
        if name != "batch_size":  # which tries small ones of other rows
            assert not {*more} & {m for m in tried if m != len(SPECIAL)}, name


def test_in_every_run_every_m_is_tried_up_to_what_was_asked_for() -> None:
    setting = Setting(400, sweep(400), every=100)
    tried = {one.company for one in relations()["batch_size"].comparisons(setting)}
    assert tried >= {f"first:{m}" for m in range(1, 101)}
    assert "first:102" not in tried
    assert {f"from:1:{row}" for row in (0, 399)} <= tried
    # Of rows of four kinds in turn every two kinds meet, and every row meets the next one where there is time.
    distances = {int(spec.split(":")[3]) for spec in tried if spec.startswith("pair")}
    assert distances == {1, 2, 3, 4}
    more = {one.company for one in relations()["batch_size"].more(setting)}
    assert {f"from:1:{row}" for row in range(400)} <= tried | more


@pytest.mark.parametrize(("most", "huge"), [(10, 0), (200, 0), (200, 5000), (140_000, 200_000)])
def test_large_batches_are_as_large_as_there_is_memory_for(most: int, huge: int) -> None:
    setting = Setting(100, sweep(100), most=most, huge=huge)
    relation = relations()["large_batch"]
    sizes = [make_batch(one.company, 100).size for one in relation.comparisons(setting)]
    assert sizes == ([151] if most >= 151 else [])
    more = [make_batch(one.company, 100).size for one in relation.more(setting)]
    assert len(more) == len({*more})
    edges = {(1 << bits) + 64 for bits in range(9, 18) if (1 << bits) + 64 <= most}
    assert {m for m in more if m != huge} == edges | {m for m in dense_sweep(2048) if 100 < m <= most}
    assert (huge in more) == bool(huge)
    # The first few are of every range.
    assert most < 2048 or {m // 256 for m in more[:16]} >= {0, 1, 2, 5, 8}
    far = Setting(100, sweep(100), most=most, longest=300, far=True)
    assert [*relation.more(far)][-1].company == "far:100"


def test_history_is_of_larger_smaller_and_other_batches_and_of_none_of_sequences_but_the_largest() -> None:
    rows, sequences = settings_of(130)
    before = {one.before for one in relations()["history"].comparisons(rows)}
    assert {("first:130",), ("first:1",), None} <= before
    assert {one.before for one in relations()["history"].comparisons(sequences)} == {("first:130",), None}


def test_contagious_neighbours_and_padding_are_tried_in_every_range_of_sizes() -> None:
    rows, _ = settings_of(400)
    tried = {one.company for one in relations()["neighbour_content"].more(rows)}
    assert rows.between
    for m in rows.between:
        assert {f"nan:{m}:4", f"huge:{m}:4", f"padded:{m}:{m // 2}"} <= tried


@pytest.mark.parametrize("universe", [5, 17, 257])
def test_in_universes_of_other_data_sequences_of_one_kind_are_tried_together(universe: int) -> None:
    _, sequences = settings_of(universe)
    by_kind: dict[int, set[int]] = {}
    for number in range(1, 65):
        drawn = [make_batch(one.company, universe) for one in relations()["shared_pages"].drawn(number, sequences)]
        rows = {int(batch.rows[0]) for batch in drawn if batch.name.kind == "copies"}
        # Seeds of these universes are as far apart as their numbers are, times an odd number.
        (kind,) = {(row + number * SEEDS_APART) % KINDS_OF_ROWS for row in rows}
        by_kind.setdefault(kind, set()).update(rows)
        assert number != KINDS_OF_ROWS or [*by_kind] == [0]
    wanted = universe if universe < 64 else 60
    assert all(len(by_kind[kind]) >= wanted for kind in range(KINDS_OF_ROWS))


@pytest.mark.parametrize("universe", UNIVERSES)
def test_each_thing_is_set_around_a_small_batch_and_a_larger_one(universe: int) -> None:
    for setting in settings_of(universe):
        tried = [*relations()["surroundings"].comparisons(setting)]
        sizes = {make_batch(one.company, universe).size for one in tried}
        assert len(tried) == len(AROUND) * len(sizes) <= 2 * len(AROUND)
        assert all(one.company == one.reference and one.launch in AROUND for one in tried)
        assert universe < 17 or (min(sizes) <= 5 and 15 <= max(sizes) < universe)


def test_two_calls_of_sequences_at_once_have_room_and_are_made_as_there_is_time() -> None:
    relation, setting = relations()["concurrency"], Setting(17, sweep(17), most=9, longest=65, page=16)
    assert {one.launch for one in relation.comparisons(setting)} == {"kept"}
    at_once = {one.company for one in relation.more(setting) if one.launch == "concurrent"}
    assert {"first:5", "first:8"} <= at_once
    assert max(make_batch(one, 17).size for one in at_once) <= 9


def test_two_calls_at_once_are_few_and_small() -> None:
    tried = [*relations()["concurrency"].comparisons(Setting(4096, sweep(4096)))]
    assert {one.launch for one in tried} == {"concurrent", "kept"}
    assert max(make_batch(one.company, 4096).size for one in tried) <= 1025


@pytest.mark.parametrize("universe", UNIVERSES)
def test_where_time_is_short_some_sizes_are_from_everywhere(universe: int) -> None:
    setting, relation = Setting(universe, sweep(universe)), relations()["batch_size"]
    more = [make_batch(one.company, universe) for one in relation.more(setting)]
    sizes = [batch.size for batch in more if batch.name.kind == "first"]
    usual = {make_batch(one.company, universe).size for one in relation.comparisons(setting)}
    assert len(sizes) == len({*sizes})
    assert {*sizes} | usual | {universe} >= {*setting.dense}
    early = sorted(usual | {*sizes[:40]})
    assert max((later - m for m, later in pairwise(early)), default=0) <= max(2, universe // 10)
