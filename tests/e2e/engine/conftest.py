"""What tests of engines share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.e2e_runs import shrunk

LAYERS = 6


@pytest.fixture(scope="module")
def shallow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first layers of SmolLM2: whether answers depend on their batch is seen in a few, and all thirty take long."""
    path = tmp_path_factory.mktemp("model") / "smollm2"
    shrunk(path, LAYERS)
    return path


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path is short enough to name sockets in."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines without what vLLM compiles even where it is told not to."""
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
