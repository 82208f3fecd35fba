"""What our packages read from beside their modules is installed with them."""

from __future__ import annotations

import tomllib

import pytest

from support import ROOT

SHIPPED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]


@pytest.mark.parametrize("package", ["kernels_bench", "e2e", "profiles"])
def test_every_file_that_is_no_module_is_named_as_package_data(package: str) -> None:
    folder = ROOT / package
    named = {path for pattern in SHIPPED[package] for path in folder.glob(pattern)}
    every = {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    others = {path for path in every if path.suffix != ".py"}
    # Recordings of a GPU's runs are kept in the repository alone.
    read = {path for path in others if not {"baselines", "plans"} & {*path.parts}}
    assert read == named
