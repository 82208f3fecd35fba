"""With tensor parallelism each rank is watched by itself, and what adds over ranks takes what all of them have."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from e2e.locate.records import Cause, Located
from e2e.report.located import exit_status, lines
from e2e.workload.options import Options
from kernels_bench.workers.orphan_guard import SHARED, shared_files
from support.e2e_runs import NEEDS_ENGINE, searched
from support.planted_ranks import BOTH, CONTROLS, GEMM, NOTHING, ONE_RANK, OVER, SUM
from support.processes import LIMIT_S, begin, wait_until

# How ranks are told apart and joined is tested in test_joined.py, and the search itself in test_planted_causes.py.
pytestmark = [*NEEDS_ENGINE, pytest.mark.engine_full]


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Located]:
    """What was found in one engine of two ranks, by what was on."""
    sizes = Options(
        model="synthetic:tiny", batch_size=10, min_prompt=30, max_prompt=90, max_tokens=2, max_model_len=128,
        eager=True, tp_size=2,
    )  # fmt: skip
    before = shared_files()
    try:
        return searched("support.planted_ranks", sizes, tmp_path_factory.mktemp("ranks"))
    finally:
        for name in {one for one in shared_files() - before if one.startswith("vllm_dist_")}:
            (SHARED / name).unlink()  # of an engine that no command of ours has ended


def test_a_rank_that_is_killed_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    before = shared_files()
    words = ["locate", "--model", "synthetic:tiny", "--tp-size", "2", "--batch-size", "10", "--min-prompt", "30",
             "--max-prompt", "90", "--max-tokens", "500", "--max-model-len", "640", "--needles", "2",
             "--num-trials", "1", "--eager", "--out", tmp_path / "run"]  # fmt: skip
    command = begin("e2e", *words)
    assert command.stderr is not None
    assert any("looking into it" in line for line in command.stderr)
    (rank,) = of_rank_1(command.pid)
    rank.kill()
    _, err = command.communicate(timeout=LIMIT_S)
    assert (command.returncode, err.splitlines()[-1]) == (3, "e2e: rank 1 was killed by SIGKILL")
    assert wait_until(lambda: not any(one.startswith("vllm_dist_") for one in shared_files() - before))


def test_an_engine_of_two_ranks_is_compared_with_one_of_one(tmp_path: Path) -> None:
    words = ["locate", "--against", "tp=2", "--model", "synthetic:tiny", "--batch-size", "10", "--min-prompt", "30",
             "--max-prompt", "90", "--max-tokens", "6", "--max-model-len", "128", "--needles", "2", "--eager",
             "--out", tmp_path / "run"]  # fmt: skip
    command = begin("e2e", *words)
    out, err = command.communicate(timeout=LIMIT_S)
    assert command.returncode == 0, err
    found = Located.model_validate_json((tmp_path / "run" / "located.json").read_text())
    assert found.against is not None
    assert found.against.name == "tp=2"
    assert found.against.provenance.endswith("over 2 ranks")
    # Where parts of a product are added over the ranks, and nowhere else.
    assert {one.path.rpartition(".")[2] for one in causes_of(found)} == {"self_attn", "mlp"}
    assert found.first is not None
    assert found.first.path == "model.layers.0.self_attn"
    assert "they part, which breaks no promise" in out


def of_rank_1(command: int) -> list[psutil.Process]:
    return [one for one in psutil.Process(command).children(recursive=True) if "Worker_TP1" in " ".join(one.cmdline())]


def causes_of(found: Located) -> tuple[Cause, ...]:
    assert found.causes is not None
    return found.causes


def test_a_cause_in_one_rank_is_found_there_and_no_sum_over_ranks_is_accused(searches: dict[str, Located]) -> None:
    found = searches[ONE_RANK]
    assert {(one.path, one.operator, one.ranks) for one in causes_of(found)} == {(*GEMM, (1,))}
    assert found.first is not None
    assert (found.first.rows_equal, found.first.rows_differ) == (found.first.rows, found.first.rows)
    assert found.kept_bits
    assert found.probe_kept_bits
    assert found.call == "0.safetensors"
    assert exit_status(found) == 1
    assert any("in rank 1 alone" in line for line in lines(found, "run"))


def test_a_sum_over_ranks_is_a_cause_in_all_of_them_and_cannot_be_run_alone(searches: dict[str, Located]) -> None:
    found = searches[SUM]
    assert {(one.operator, one.ranks) for one in causes_of(found)} == {(OVER, ())}
    assert len(causes_of(found)) == 5  # after the embedding, and twice in each of two layers
    assert found.kept_bits
    assert found.call is None
    assert "the call could not be saved: it takes what all ranks have" in found.notes


def test_both_are_found_in_one_pass(searches: dict[str, Located]) -> None:
    found = {(one.operator, one.ranks) for one in causes_of(searches[BOTH])}
    assert found == {(OVER, ()), (GEMM[1], (1,))}
    assert searches[BOTH].kept_bits


@pytest.mark.parametrize("title", [CONTROLS, NOTHING])
def test_what_alters_every_batch_alike_is_no_cause(searches: dict[str, Located], title: str) -> None:
    found = searches[title]
    assert (found.first, found.repeats[0], found.probe_kept_bits, found.alone_repeats) == (None, 0, True, True)
    assert exit_status(found) == 0
