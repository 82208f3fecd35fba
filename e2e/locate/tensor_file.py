"""Tensors and words in one safetensors file: no pickle, so that a file of others runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_tensors(file: Path, tensors: Mapping[str, Any], words: Mapping[str, str]) -> None:
    """Write a new file; where that fails there is none.

    Raises:
        OSError: there is no room, or no such directory.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), str(file), dict(words))
    except (OSError, SafetensorError) as error:
        file.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise
        raise OSError(str(error)) from None


def read_tensors(file: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Words and tensors of a file.

    Raises:
        OSError: it cannot be read, or is of another kind.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as opened:
            words: dict[str, str] = opened.metadata() or {}
            return words, {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise OSError(str(error)) from None
