"""Presets are whole models, of as many layers as asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.checkpoints.presets import PRESETS, configuration
from e2e.checkpoints.resolve import checkpoint
from e2e.workload.options import OptionsError


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_whole_and_take_fewer_layers(preset: str) -> None:
    whole = configuration(preset)
    assert whole["hidden_size"] > 0
    assert whole["num_attention_heads"] % whole["num_key_value_heads"] == 0
    assert configuration(f"{preset}@1") == whole | {"num_hidden_layers": 1}


@pytest.mark.parametrize("layers", ["", "x", "0", "-1", "1.5", "../elsewhere"])
def test_a_preset_takes_a_number_of_layers(layers: str, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"expected a number of layers after the @, such as synthetic:tiny@2"):
        checkpoint(f"synthetic:tiny@{layers}", tmp_path, print)
