"""Somebody's Triton kernel, checked under Triton's interpreter by the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kernels_bench.device.triton_interpreter import treat_rows_alike
from support import PLUGINS
from support.processes import kernels_bench

WORDS = ["--op", "mm", "--arm", "triton-mm", "--shapes", "48,40", "--dtype", "fp32", "--batch", "1,3", "--quick"]
SHOWN_BY = ["--relation", "batch_size", "--partial"]
"""What a product of two matrices whose rows are not treated alike breaks first: the interpreter is slow."""


def test_a_kernel_is_not_blamed_for_the_interpreters_matrix_product(tmp_path: Path) -> None:
    """With the kernels for Haswell it would be, on any processor that has its instructions."""
    done = kernels_bench(
        *("--plugin", PLUGINS / "triton_mm.py", *WORDS, *SHOWN_BY, "--out", tmp_path / "run"),
        TRITON_INTERPRET=1,
        CUDA_VISIBLE_DEVICES="",
        OPENBLAS_CORETYPE="Haswell",
    )
    assert done.status == 0, done.out
    assert "triton-mm kept its bits in 1 of 1 case" in " ".join(done.out.split())
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["environment"]["variables"]
    assert recorded["OPENBLAS_CORETYPE"] == "Sandybridge"


@pytest.mark.parametrize("value", [None, "", "0"])
def test_without_the_interpreter_nothing_is_changed(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    if value is not None:
        monkeypatch.setenv("TRITON_INTERPRET", value)
    treat_rows_alike()
    assert os.environ["OPENBLAS_CORETYPE"] == "Zen"
