"""Relations: which companies they choose, and that every row of a company is compared."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.operators.inputs import rows
from kernels_bench.relations import Batch, Comparison, Relation, Setting, make_batch, relations
from kernels_bench.relations.base import FEW, sweep
from kernels_bench.relations.batch import ELSEWHERE, HOSTILE, PHASES, routed_alike
from kernels_bench.relations.position import EDGES
from kernels_bench.relations.repeat import TIMES

UNIVERSES = (1, 2, 3, 4, 5, 8, 17, 64, 130, 512, 4096)
NAMES = (
    *("repeat", "batch_size", "position", "neighbour_content", "graph", "neighbour_length", "page_placement"),
    *("chunking", "prefill_decode", "special_values", "unused_memory", "shared_pages"),
    "neighbour_routing",
    *("concurrency", "layout", "history", "large_batch", "before_window", "tensor_parallel"),
    *("packed_lengths", "surroundings"),
)
OF_PREFILLS = {"chunking", "prefill_decode"}
OF_SEQUENCES = {"neighbour_length", "page_placement", "shared_pages", "before_window", *OF_PREFILLS}
OF_ROUTED = {"neighbour_routing"}
OF_PACKED = {"packed_lengths"}
OF_SHARDED = {"tensor_parallel"}
universes = st.integers(1, 5000)


def setting(universe: int) -> Setting:
    return Setting(universe, sweep(universe), longest=2048, page=16, most=2 * universe, window=128)


def pairs(name: str, universe: int) -> list[tuple[Comparison, Batch, Batch]]:
    chosen = list(relations()[name].comparisons(setting(universe)))
    return [(c, make_batch(c.reference, universe), make_batch(c.company, universe)) for c in chosen]


@st.composite
def specs(draw: st.DrawFn) -> tuple[str, int]:
    """Any valid spec with its universe."""
    universe = draw(universes)
    kind = draw(st.sampled_from(("first", "last", "reverse", "rotate", "shuffle", "others", *HOSTILE)))
    size = draw(st.integers(1, universe))
    if kind in ("first", "last", "reverse"):
        return f"{kind}:{size}", universe
    return f"{kind}:{size}:{draw(st.integers(0, size - 1))}", universe


def test_the_hostile_kinds_are_those_that_rows_makes() -> None:
    assert HOSTILE == rows.HOSTILE


def test_relations_come_in_order_with_repeat_first() -> None:
    found = relations()
    assert tuple(found) == NAMES
    assert [r.order for r in found.values()] == sorted({r.order for r in found.values()})
    assert [name for name, r in found.items() if r.needs_cuda] == ["graph"]
    assert [name for name, r in found.items() if r.optional] == ["layout", "history", "tensor_parallel", "surroundings"]
    more_of_sequences = [name for name, r in found.items() if r.is_optional("prefills") and not r.optional]
    assert more_of_sequences == ["concurrency"]
    assert not found["concurrency"].is_optional("packed")
    assert [name for name, r in found.items() if r.hazardous] == ["layout", "large_batch", "surroundings"]
    of_any = {*NAMES} - OF_SEQUENCES - OF_ROUTED - OF_SHARDED - OF_PACKED
    assert {name for name, r in found.items() if r.applies_to("rows")} == of_any
    assert {name for name, r in found.items() if r.applies_to("routed")} == of_any | OF_ROUTED
    assert {name for name, r in found.items() if r.applies_to("packed")} == of_any | OF_PACKED
    assert {name for name, r in found.items() if r.applies_to("sharded")} == of_any | OF_SHARDED
    of_sequences = of_any | OF_SEQUENCES
    assert {name for name, r in found.items() if r.applies_to("sequences")} == of_sequences - OF_PREFILLS
    assert {name for name, r in found.items() if r.applies_to("prefills")} == of_sequences
    assert all(isinstance(r, Relation) and r.summary for r in found.values())


@given(specs())
def test_every_spec_makes_the_same_company_again(given_spec: tuple[str, int]) -> None:
    spec, universe = given_spec
    made, again = make_batch(spec, universe), make_batch(spec, universe)
    assert made.spec == spec
    assert made.size == int(spec.split(":")[1])
    assert np.array_equal(made.rows, again.rows)
    assert np.array_equal(made.compared, again.compared)


@given(specs())
def test_companies_hold_rows_of_the_universe_and_compare_ordinary_ones(made_of: tuple[str, int]) -> None:
    spec, universe = made_of
    made = make_batch(spec, universe)
    assert made.rows.min() >= 0
    assert made.rows.max() < universe + len(HOSTILE)
    assert (made.rows[made.compared] < universe).all()
    assert len(set(made.compared.tolist())) == len(made.compared)
    if spec.split(":")[0] not in HOSTILE:
        assert made.rows.max() < universe


@given(universes, st.data())
def test_permutations_hold_each_row_once_and_compare_them_all(universe: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, universe))
    argument = data.draw(st.integers(0, size))
    for kind in ("reverse", "rotate", "shuffle", "first"):
        end = f":{argument}" if kind in ("rotate", "shuffle") else ""
        made = make_batch(f"{kind}:{size}{end}", universe)
        assert sorted(made.rows.tolist()) == list(range(size))
        assert made.compared.tolist() == list(range(size))
    assert make_batch(f"last:{size}", universe).rows.tolist() == list(range(universe - size, universe))
    assert make_batch(f"rotate:{size}:{argument}", universe).rows[argument % size] == 0
    assert make_batch(f"reverse:{size}", universe).rows[-1] == 0


def test_shuffles_differ_by_seed_and_really_shuffle() -> None:
    orders = [make_batch(f"shuffle:64:{seed}", 64).rows.tolist() for seed in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    for order in orders:
        assert sum(row == place for place, row in enumerate(order)) < 8


@given(st.integers(3, 5000), st.data())
def test_neighbours_are_exchanged_and_the_compared_rows_keep_their_places(universe: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(2, universe))
    phase = data.draw(st.integers(0, min(3, size - 1)))
    for kind in ("others", *HOSTILE):
        made = make_batch(f"{kind}:{size}:{phase}", universe)
        stays = np.arange(size) % 4 == phase
        assert made.compared.tolist() == np.flatnonzero(stays).tolist()
        assert np.array_equal(made.rows[stays], np.arange(size)[stays])
        if kind == "others":
            assert (made.rows[~stays] != np.arange(size)[~stays]).all()
        else:
            assert (made.rows[~stays] == universe + HOSTILE.index(kind)).all()


@pytest.mark.parametrize("universe", UNIVERSES)
@pytest.mark.parametrize("name", NAMES)
def test_every_compared_row_exists_in_the_reference(name: str, universe: int) -> None:
    for comparison, reference, made in pairs(name, universe):
        assert made.size > 0
        assert len(made.compared) > 0, comparison
        assert set(made.rows[made.compared].tolist()) <= set(reference.rows.tolist()), comparison
        assert len(set(reference.rows.tolist())) == reference.size, comparison


@pytest.mark.parametrize("universe", UNIVERSES)
@pytest.mark.parametrize("name", ["repeat", "batch_size", "position", "graph"])
def test_every_row_is_compared_but_where_neighbours_are_exchanged(name: str, universe: int) -> None:
    for _, _, made in pairs(name, universe):
        assert made.compared.tolist() == list(range(made.size))


@pytest.mark.parametrize("universe", UNIVERSES)
def test_comparisons_of_one_reference_come_together(universe: int) -> None:
    # The reference's outputs are kept until the next one is asked for: scattered ones would be made again.
    for name in ("batch_size", "position", "neighbour_content"):
        references = [c.reference for c, _, _ in pairs(name, universe)]
        changes = 1 + sum(a != b for a, b in pairwise(references))
        assert changes == max(1, len(set(references)))


@pytest.mark.parametrize("universe", [2, 64, 130, 4096])
def test_batch_size_meets_every_size_of_the_sweep_against_the_whole(universe: int) -> None:
    chosen = pairs("batch_size", universe)
    met = {made.size for c, _, made in chosen if c.company.startswith("first")}
    assert met == set(sweep(universe)) - {universe}
    assert all(reference.size == universe for _, reference, _ in chosen)


def test_as_many_rows_as_the_shape_has_columns_are_tried() -> None:
    setting = Setting(64, sweep(64), most=400, shape_sizes=(24, 300, 5000))
    within = {one.company for one in relations()["batch_size"].comparisons(setting)}
    beyond = [one.company for one in relations()["large_batch"].more(setting)]
    assert "first:24" in within
    assert beyond[0] == "cycled:300"
    assert not {"cycled:24", "cycled:5000"} & {*beyond}


def test_repeat_repeats() -> None:
    chosen = [c for c, _, _ in pairs("repeat", 4096)]
    assert all(c.reference == c.company and c.launch == "eager" for c in chosen)
    again = Counter(made.size for _, _, made in pairs("repeat", 4096))
    assert set(again) == set(setting(4096).telling)
    assert {again[m] for m in setting(4096).few if m < 4096} == {TIMES}
    assert again[4096] == 2  # its launches cost most, and every other relation begins with one
    assert chosen[0].company == "first:4096"


def test_position_moves_a_row_to_either_side_of_tile_edges() -> None:
    chosen = [made for _, _, made in pairs("position", 4096) if 0 in made.rows]  # one row repeated may lack it
    places = {int(np.flatnonzero(made.rows == 0)[0]) for made in chosen}
    assert places >= {*EDGES, 4095}


def test_graphs_are_replayed_with_another_company_than_was_captured() -> None:
    chosen = pairs("graph", 64)
    assert all(c.launch == "graph" and c.reference == c.company for c, _, _ in chosen)
    by_size: dict[int, set[str]] = {}
    for c, _, made in chosen:
        by_size.setdefault(made.size, set()).add(c.company)
    assert all(len(specs) > 1 for size, specs in by_size.items() if size > 1)


def test_neighbour_content_meets_every_kind_and_every_phase() -> None:
    chosen = [c.company.split(":") for c, _, _ in pairs("neighbour_content", 4096)]
    assert {kind for kind, _, _ in chosen} == {"others", "padded", *HOSTILE}
    assert {phase for _, _, phase in chosen} >= {"0", "1", "2", "3"}


@pytest.mark.parametrize("universe", [256, 257, 4096])
@pytest.mark.parametrize("kind", ["huge", "nan"])
def test_some_row_has_such_a_neighbour_at_every_small_distance(universe: int, kind: str) -> None:
    """In every range of sizes: kernels mix rows that are 8 apart as easily as those beside each other."""
    chosen = [made for c, _, made in pairs("neighbour_content", universe) if c.company.startswith(kind)]
    assert {m for m in setting(universe).telling if m > 1} == {made.size for made in chosen}
    met: dict[int, set[int]] = {}
    for made in chosen:
        replaced = np.flatnonzero(made.rows >= universe)
        met.setdefault(made.size, set()).update((replaced[:, None] - made.compared[None, :]).ravel().tolist())
    for size, distances in met.items():
        near = {d for d in range(-size + 1, size) if d and abs(d) <= min(32, size // 2)}
        assert near - distances == set() if size >= 16 else len(near - distances) <= 2, size


@given(st.integers(2, 5000), st.integers(PHASES, 100))
def test_of_later_patterns_half_of_the_rows_stay(size: int, pattern: int) -> None:
    made = make_batch(f"nan:{size}:{pattern}", 5000)
    assert len(made.compared) == (size + 1) // 2
    assert made.rows[made.compared].tolist() == made.compared.tolist()
    assert (np.delete(made.rows, made.compared) >= 5000).all()


@given(st.integers(1, 300), st.sets(st.integers(1, 300), max_size=3))
def test_sizes_that_the_user_named_are_tried_by_costlier_relations_too(universe: int, named: set[int]) -> None:
    asked = tuple(sorted(m for m in named if m <= universe))
    chosen = Setting(universe, tuple(sorted({*sweep(universe), *asked})), asked=asked)
    assert set(asked) <= set(chosen.telling)
    for name in ("repeat", "position", "neighbour_content"):
        tried = {make_batch(c.company, universe).size for c in relations()[name].comparisons(chosen)}
        assert {m for m in asked if m > 1} <= tried


@pytest.mark.parametrize("universe", [257, 4096])
def test_telling_sizes_are_in_every_range_of_the_powers_of_two(universe: int) -> None:
    telling = setting(universe).telling
    assert {(m - 1).bit_length() for m in telling} == set(range((universe - 1).bit_length() + 1))


@given(st.integers(1, 5000))
def test_the_sweep_stands_around_every_power_of_two(universe: int) -> None:
    sizes = sweep(universe)
    wanted = {m for e in range(13) for m in ((1 << e) - 1, 1 << e, (1 << e) + 1)}
    assert set(sizes) >= {m for m in wanted if 1 <= m <= min(universe, 4096)}
    assert sizes == tuple(sorted(set(sizes)))
    assert (sizes[0], sizes[-1]) == (1, universe)


@given(st.integers(1, 5000))
def test_few_sizes_span_the_sweep(universe: int) -> None:
    few = setting(universe).few
    assert len(few) <= FEW
    assert set(few) <= set(sweep(universe))
    assert (few[0], few[-1]) == (1, universe)
    assert Setting(universe, (universe,)).few == (universe,)
    assert set(few) <= set(setting(universe).telling) <= set(sweep(universe))


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "first",
        "first:",
        "first:x",
        "first:1.5",
        "first:0",
        "first:-1",
        "first:65",
        "first:4:1",
        "reverse:4:1",
        "last:4:1",
        "rotate:4",
        "rotate:4:1:2",
        "shuffle:4",
        "shuffle:4:-1",
        "others:4",
        "nan:4:1:1",
        "unknown:4",
        "unknown:4:1",
        "FIRST:4",
    ],
)
def test_bad_specs_are_refused(spec: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        make_batch(spec, 64)


@pytest.mark.parametrize("spec", ["others:1:1", "nan:2:3", "zero:3:3"])
def test_companies_that_compare_nothing_are_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="compare"):
        make_batch(spec, 64)


@given(st.integers(1, 600))
def test_neighbours_are_routed_like_a_row_or_elsewhere_from_none_to_all(universe: int) -> None:
    chosen = pairs("neighbour_routing", universe)
    counts: dict[int, set[int]] = {}
    for comparison, reference, made in chosen:
        assert reference.spec == f"first:{made.size}"
        (count,) = made.name.arguments
        elsewhere = made.rows == universe + ELSEWHERE
        assert (~elsewhere).sum() == count
        assert routed_alike(made.rows[~elsewhere]).all()
        assert 1 <= len(made.compared) <= count
        assert np.array_equal(made.rows[made.compared], made.compared), comparison
        counts.setdefault(made.size, set()).add(count)
    assert universe in counts
    assert all({1, m} <= found <= set(range(1, m + 1)) for m, found in counts.items())
    known = [t for t in (*range(1, 6), 8, 9, 16, 17, 32, 33, 64, 65, 128, 129, 256, 257, 512, 513) if t < universe]
    assert {*known} <= counts[universe]
    drawn = {c.company for n in range(12) for c in relations()["neighbour_routing"].drawn(n, setting(universe))}
    assert drawn <= {c.company for c, _, _ in chosen}
    assert len(drawn) >= min(4, universe)
    further = {made for one in relations()["neighbour_routing"].more(setting(universe)) for made in [one.company]}
    assert not further & {c.company for c, _, _ in chosen}
    every = {int(spec.split(":")[2]) for spec in further if spec.startswith(f"routed:{universe}:")} | counts[universe]
    assert {*range(1, min(universe, 320) + 1)} <= every


def test_rows_of_every_kind_are_routed_alike_and_stay_in_turn() -> None:
    alike = np.flatnonzero(routed_alike(np.arange(64)))
    assert len(alike) == 16
    assert Counter((alike % 4).tolist()) == dict.fromkeys(range(4), 4)
    alone = {int(make_batch(f"routed:{m}:1", 256).compared[0]) % 4 for m in (5, 17, 65, 251, 256, 240, 246)}
    assert alone == {0, 1, 2, 3}
