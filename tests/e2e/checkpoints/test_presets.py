"""Presets are whole models, of as many layers as asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from e2e.checkpoints.make import draw_biases
from e2e.checkpoints.presets import PRESETS, configuration
from e2e.checkpoints.resolve import checkpoint
from e2e.workload.options import OptionsError
from kernels_bench.operators.model_shapes import DENSE


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_whole_and_take_fewer_layers(preset: str) -> None:
    whole = configuration(preset)
    assert whole["hidden_size"] > 0
    assert whole["num_attention_heads"] % whole["num_key_value_heads"] == 0
    assert configuration(f"{preset}@1") == whole | {"num_hidden_layers": 1}


@pytest.mark.parametrize("model", DENSE, ids=lambda model: model.name)
def test_a_preset_has_the_sizes_that_its_operators_are_measured_at(model: Any) -> None:
    whole = configuration(model.name)
    assert whole["hidden_size"] == model.hidden
    assert whole["num_hidden_layers"] == model.layers
    assert (whole["num_attention_heads"], whole["num_key_value_heads"]) == (model.heads, model.kv_heads)
    assert whole.get("head_dim", model.hidden // model.heads) == model.head_dim
    assert (whole["intermediate_size"], whole["vocab_size"]) == (model.intermediate, model.vocabulary)


def test_biases_are_drawn_and_nothing_else_is() -> None:
    torch.manual_seed(1)
    first = torch.nn.Linear(3, 2)
    torch.nn.init.zeros_(first.bias)
    model = torch.nn.Sequential(first, torch.nn.Linear(2, 2, bias=False), torch.nn.LayerNorm(2))
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    draw_biases(model, 0.02)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {"0.bias", "2.bias"}
    assert 0 < float(first.bias.detach().abs().max()) < 0.2


@pytest.mark.parametrize("layers", ["", "x", "0", "-1", "1.5", "../elsewhere"])
def test_a_preset_takes_a_number_of_layers(layers: str, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"expected a number of layers after the @, such as synthetic:tiny@2"):
        checkpoint(f"synthetic:tiny@{layers}", tmp_path, print)
