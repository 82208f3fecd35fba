"""What tests of engines share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path is short enough to name sockets in."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines without what vLLM compiles even where it is told not to."""
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
