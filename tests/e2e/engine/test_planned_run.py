"""The arm ``planned`` over the real engine, on a CPU: a plan's kernels in the places of vLLM's."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from e2e.engine.planned import GROUP, NAME, PLUGIN
from e2e.records import Started
from support import ROOT
from support.e2e_runs import NEEDS_ENGINE, SPARING, Done, finish
from support.plans import CPU, case, plan
from support.processes import begin

pytestmark = NEEDS_ENGINE

SIZES = "--batch-size 4 --min-prompt 8 --max-prompt 12 --max-tokens 2 --max-model-len 32 --needles 1 --num-trials 1"
WORDS = ("--model", "synthetic:tiny", *SIZES.split(), "--eager", "--arms", "planned")


NORM = "samebits[4rows]"


def ran(path: Path, n: int) -> Done:
    """A run with a plan of one linear, whose columns are ``n``, and one norm, of another number of rows."""
    file = path / "plan.json"
    linear = case((1, "samebits"), (5, "torch"), n=n, k=256)
    norm = case((1, NORM), (5, "samebits[32rows]"), operator="fused_add_rms_norm", n=None, k=n // 2)
    file.write_text(plan(linear, norm, device=CPU).model_dump_json())
    return finish(begin("e2e", *WORDS, "--plan", file, "--out", path / "run", **SPARING), path / "run")


def test_the_plans_kernels_are_what_the_engine_calls_and_the_record_says_so(tmp_path: Path) -> None:
    done = ran(tmp_path, n=512)
    (started,) = [one for one in done.records if isinstance(one, Started)]
    found = started.plan
    assert found is not None
    assert (found.plan, found.linears, found.linears_planned) == (str(tmp_path / "plan.json"), 9, 2)
    uses = {use.key: use for use in found.uses}
    assert uses["linear/512x256/bf16"].planned
    assert uses["linear/512x256/bf16"].kernels == "samebits up to M=4, torch from M=5 on"
    # Two layers have it, and one batch at least was computed; the others of a layer are outside of this plan.
    assert uses["linear/512x256/bf16"].calls >= 2
    assert {key for key, use in uses.items() if not use.planned and use.calls} == {
        *(f"linear/{sizes}/bf16" for sizes in ("256x256", "1024x256", "256x512", "4096x256")),
        "rms_norm/256/bf16",
    }
    norm = uses["fused_add_rms_norm/256/bf16"]
    assert (norm.planned, norm.kernels) == (True, f"{NORM} up to M=4, samebits[32rows] from M=5 on")
    assert norm.calls >= 4  # two a layer, the first norm apart, and the last one
    log = (tmp_path / "run" / "logs" / "planned.log").read_text()
    assert "samebits plan: linear/512x256/bf16: samebits up to M=4, torch from M=5 on" in log
    assert done.verdicts["planned"].answers > 0


@pytest.mark.engine_full  # which shapes of a plan were called is judged in tests/kernels_bench/planned
def test_a_plan_of_another_models_shapes_is_an_error_and_no_baseline(tmp_path: Path) -> None:
    done = ran(tmp_path, n=500)
    assert done.status == 3
    assert "the plan has none of the model's shapes; the engine called linear/512x256/bf16" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--arms", "baseline", "--plan", "x"], "--plan x: only the arm planned has one, and is not"),
        (["--arms", "planned", "--plan", "missing.json"], "missing.json: No such file or directory"),
    ],
)
def test_a_plan_that_cannot_be_used_ends_in_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    done = finish(begin("e2e", *words), tmp_path)
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert said in line


def test_what_a_checkout_announces_is_what_an_installation_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"][GROUP] == {NAME: PLUGIN}
