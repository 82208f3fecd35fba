"""Planted causes in a real engine whose model is compiled in parts, as for GPUs, are found there; controls are not."""

from __future__ import annotations

import pytest

from e2e.locate.probing.compiled import COMPILED
from e2e.locate.records import Located
from e2e.report.located import exit_status, lines
from e2e.workload.options import Options
from support.e2e_runs import NEEDS_ENGINE
from support.e2e_runs import searched as run_searches
from support.planted_in_compiled import BOTH, CONTROL, PLACES

# How parts are watched and put right is tested in test_compiled.py, and the search itself in test_planted_causes.py.
pytestmark = [*NEEDS_ENGINE, pytest.mark.engine_full]


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Located]:
    """What was found in one engine, with both plants, and with both as controls."""
    sizes = Options(model="smollm2", batch_size=10, min_prompt=30, max_prompt=90, max_tokens=2, max_model_len=128)
    return run_searches("support.planted_in_compiled", sizes, tmp_path_factory.mktemp("compiled"))


def places(found: Located) -> set[tuple[str, str]]:
    """Of the causes in the prefill, where the plants are on."""
    return {(one.path, one.operator) for one in found.causes or () if one.step == 0}


def test_causes_in_a_part_and_in_attention_are_found_at_once_and_put_right(searches: dict[str, Located]) -> None:
    found = searches[BOTH]
    assert set(PLACES.values()) <= places(found)
    assert found.kept_bits
    assert found.probe_kept_bits
    assert exit_status(found) == 1


def test_of_a_part_it_is_said_how_its_operator_is_found(searches: dict[str, Located]) -> None:
    found = searches[BOTH]
    first = found.first
    assert first is not None
    assert (first.path, first.operator, first.kind) == (*PLACES["part"], "compiled")
    assert first.why_not_smaller == (COMPILED,)
    assert first.rows_equal == first.rows
    assert found.call is None
    assert any("with --eager the call of its operator is saved" in line for line in lines(found, "d"))


def test_controls_in_parts_are_not_accused(searches: dict[str, Located]) -> None:
    found = searches[CONTROL]
    assert not set(PLACES.values()) & places(found)
    assert found.probe_kept_bits
    assert found.kept_bits is not False
