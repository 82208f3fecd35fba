"""What tests of the needle benchmark share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with as much of vLLM as names its backends, which must not be imported."""
    root = tmp_path_factory.mktemp("registry")
    file = root / "vllm" / "v1" / "attention" / "backends" / "registry.py"
    file.parent.mkdir(parents=True)
    (root / "vllm" / "__init__.py").write_text("raise AssertionError('imported')")
    file.write_text(
        "class AttentionBackendEnum(Enum):\n    FLASH_ATTN = 'x'\n    C2 = (\n        'y'\n    )\n\n    def f(self):\n"
        "        pass\n\n\nclass MambaEnum(Enum):\n    OTHER = 'z'\n"
    )
    return root
