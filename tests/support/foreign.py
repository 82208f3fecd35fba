"""A directory whose packages and modules have the names of ours, and of what we import."""

from __future__ import annotations

import sys
from pathlib import Path

from profiles.invocation import INSTALLED

BIN = Path(sys.executable).parent
"""Where the installed commands are."""
FOREIGN = ("multiprocessing", "numpy", "signal", "torch", "triton", "types", "typing_extensions", "vllm")


def package(place: Path, name: str) -> Path:
    """Another package of that name, which nobody can have imported unnoticed."""
    (place / name).mkdir(parents=True)
    (place / name / "__init__.py").write_text(f"raise SystemExit('the foreign {name} was imported')\n")
    return place / name


def repository(place: Path) -> Path:
    """All of them."""
    for name in INSTALLED:
        package(place, name)
    for name in FOREIGN:
        (place / f"{name}.py").write_text(f"raise SystemExit('the foreign {name} was imported')\n")
    return place
