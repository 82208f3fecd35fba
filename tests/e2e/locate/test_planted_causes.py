"""Planted causes in the real engine are found at exactly their places, and controls are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from e2e.locate.against.compare import with_transformers
from e2e.locate.calls.capture import ReplayError
from e2e.locate.calls.replay import replay
from e2e.locate.judging.kept_pass import read_pass
from e2e.locate.records import Located
from e2e.locate.rounds import NOT_AGAIN
from e2e.report.located import exit_status
from e2e.workload.options import Options
from support.e2e_runs import NEEDS_ENGINE, shrunk
from support.e2e_runs import searched as run_searches
from support.planted_causes import ALTERED, ATTENTION, BESIDE, CONTROLS, ITSELF, KEPT, PLACES, SHY, TOGETHER, title_of
from support.processes import LIMIT_S

pytestmark = NEEDS_ENGINE


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("located")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of SmolLM2: a search watches and judges each layer as it does the one before, and a product of any size."""
    path = tmp_path_factory.mktemp("model") / "smollm2"
    shrunk(path, LAYERS, NEURONS)
    return path


@pytest.fixture(scope="module")
def searches(directory: Path, model: Path) -> dict[str, Located]:
    """What was found, in one engine, with some plants on, with all, and with controls."""
    return searched(directory, str(model))


def searched(directory: Path, model: str, *words: str, limit_s: float = LIMIT_S) -> dict[str, Located]:
    """What the program that plants them prints, by title."""
    sizes = Options(
        model=model, batch_size=10, min_prompt=30, max_prompt=60, max_tokens=2, max_model_len=128, eager=True
    )
    return run_searches("support.planted_causes", sizes, directory, *words, limit_s=limit_s)


ALL = TOGETHER[-1]
LAYERS, NEURONS = 5, 128
"""More layers than have a plant, so that some come after all of them."""


def beside(name: str) -> tuple[str, ...]:
    """The plants that are on in the smallest search with this one."""
    return next(names for names in TOGETHER if name in names)


def places(found: Located) -> set[tuple[str, str]]:
    assert found.causes is not None
    return {(one.path, one.operator) for one in found.causes}


@pytest.mark.parametrize("name", PLACES)
def test_a_planted_cause_is_found_where_it_is(searches: dict[str, Located], name: str) -> None:
    on = beside(name)
    found = searches[title_of(on)]
    assert PLACES[name] in places(found)
    others = {place for other, place in PLACES.items() if other not in on}
    assert not others & places(found), "a plant that is off was accused"
    (cause,) = [one for one in found.causes or () if (one.path, one.operator) == PLACES[name] and one.step == 0]
    assert cause.step_kind == "prefill"
    rows = 1 if name == "sampler" else cause.rows
    assert (cause.rows_equal, cause.rows_differ) == (rows, rows)
    assert exit_status(found) == 1


@pytest.mark.parametrize("name", PLACES)
def test_put_right_the_needle_keeps_its_bits(searches: dict[str, Located], name: str) -> None:
    found = searches[title_of(beside(name))]
    assert found.kept_bits
    assert found.probe_kept_bits
    assert found.watched == 2  # tokens came, of three that were asked for


def test_the_first_cause_is_the_first_that_was_planted(searches: dict[str, Located]) -> None:
    # Nothing that could differ by itself comes before the first norm.
    for names in (beside("norm"), ALL):
        first = searches[title_of(names)].first
        assert first is not None
        assert (first.path, first.operator) == PLACES["norm"]


def test_all_independent_causes_are_found_in_one_pass(searches: dict[str, Located]) -> None:
    assert set(PLACES.values()) <= places(searches[title_of(ALL)])
    assert searches[title_of(ALL)].kept_bits


def test_what_alters_every_batch_alike_is_no_cause(searches: dict[str, Located]) -> None:
    found = searches[BESIDE]
    assert set(PLACES.values()) & places(found) == {PLACES["sampler"]}
    assert found.kept_bits
    found = searches[CONTROLS]
    if found.first is not None:  # by what a processor's own kernels do
        assert not set(PLACES.values()) & places(found)
        assert found.kept_bits


def test_what_is_gone_once_it_is_looked_into_is_said_not_to_come_every_time(searches: dict[str, Located]) -> None:
    found = searches[SHY]
    assert found.first is not None
    assert (found.first.path, found.first.operator, found.first.why_not_smaller) == (*PLACES["norm"], (NOT_AGAIN,))
    assert found.call is None
    assert not found.probe_kept_bits
    (note,) = found.notes
    assert note.startswith("other bits of equal inputs did not come every time: in model.layers.0, ")


def test_what_could_not_be_told_apart_is_named(searches: dict[str, Located]) -> None:
    first = searches[title_of(beside("norm"))].first
    assert first is not None
    assert any("other operators are called there" in reason for reason in first.why_not_smaller)


def test_the_call_of_an_operator_is_kept(searches: dict[str, Located]) -> None:
    found = searches[title_of(beside("gemm"))]
    assert found.first is not None
    assert found.first.operator  # the plant's, or the product before it where that is variant by itself
    assert found.call == "0.safetensors"


def test_the_call_of_attention_is_kept_and_run_alone(searches: dict[str, Located], directory: Path) -> None:
    found = searches[title_of(beside("attention"))]
    assert found.first is not None
    if found.first.kind == "attention":  # where nothing before it is variant by itself
        # The plant is around the kernel and not in it, so that the kernel alone cannot give what came of it.
        with pytest.raises(ReplayError, match="does not give the needle the bits that it gave in the engine"):
            replay(directory / ATTENTION)


def test_against_itself_an_engine_parts_nowhere(searches: dict[str, Located]) -> None:
    found = searches[ITSELF]
    assert (found.first, found.causes, found.answer_differs) == (None, (), False)
    assert found.against is not None
    assert found.against.tokens == found.against.tokens_same == found.against.logprobs_same == 2
    assert found.unjudged < found.places / 50
    assert exit_status(found) == 0


def test_against_an_engine_that_alters_every_batch_it_parts_where_that_is_done(
    searches: dict[str, Located],
) -> None:
    found = searches[ALTERED]
    assert found.first is not None
    assert found.first.path == PLACES["norm"][0]
    # Caches are not read, so that what writes them, or reads them, is found as the layer's attention; and an operator
    # that only one of the two calls as the module that calls it.
    prefill = {(one.path, one.operator) for one in found.causes or () if one.step == 0}
    assert prefill == {(path, "") for path, _ in PLACES.values()}
    assert exit_status(found) == 0


def with_other_weights(own: Path, path: Path, *names: str) -> str:
    """A model with some weights half as large again."""
    path.mkdir()
    for file in own.iterdir():
        (path / file.name).symlink_to(file)
    weights = load_file(own / "model.safetensors")
    for name in names:
        weights[name] *= 1.5
    (path / "model.safetensors").unlink()
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    return str(path)


def test_against_transformers_a_planted_difference_is_found_where_it_is(
    searches: dict[str, Located], directory: Path, model: Path, tmp_path: Path
) -> None:
    assert searches
    planted = ["model.layers.0.input_layernorm", "model.layers.3.mlp.down_proj"]
    other = with_other_weights(model, tmp_path / "model", *(f"{name}.weight" for name in planted))
    found = with_transformers(read_pass(directory / KEPT), (other, None, "cpu"), "transformers", put=True)
    assert found.first is not None
    assert found.first.path == planted[0]
    # Every other place is given vLLM's own inputs in the one pass of two, and rounds otherwise at most.
    far = {one.path: one.distance or 0.0 for one in found.causes or ()}
    assert {path for path, distance in far.items() if distance > 0.1} == set(planted)
    assert len(far) > 2 * LAYERS
    assert found.against is not None
    assert found.against.lacking == ("sampler",)
    assert [one.rows for one in found.cells if one.path == "model.embed_tokens"] == [0.0, 0.0]
    assert exit_status(found) == 0


TIMES = 10


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Located]:
    """What was found with each plant alone, and with all as controls, in ten trials of one engine."""
    return searched(tmp_path_factory.mktemp("repeated"), "smollm2", str(TIMES), limit_s=3600)


@pytest.mark.long
@pytest.mark.parametrize("name", PLACES)
def test_ten_of_ten_are_found(repeated: dict[str, Located], name: str) -> None:
    on = [repeated[f"{name} {trial}"] for trial in range(TIMES)]
    assert [PLACES[name] in places(one) for one in on] == [True] * TIMES
    # What else is found is what the processor's own kernels do, and never where a plant is that is off.
    others = {place for other, place in PLACES.items() if other != name}
    assert not any(others & places(one) for one in on)
    assert all(one.kept_bits and one.probe_kept_bits for one in on)
    assert not [note for one in on for note in one.notes if "every time" in note]


@pytest.mark.long
def test_no_control_is_accused_in_ten(repeated: dict[str, Located]) -> None:
    controls = [repeated[f"{CONTROLS} {trial}"] for trial in range(TIMES)]
    assert not any(set(PLACES.values()) & places(one) for one in controls if one.causes is not None)
    assert all(one.probe_kept_bits and one.alone_repeats for one in controls)
