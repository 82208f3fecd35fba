"""Faults in one real engine of vLLM whose model is compiled in parts, and what is found of them.

Run as a program, it prints a line of JSON for every search.  On a CPU vLLM compiles a model in one piece; here it is
told to cut it at its attention, as it does on GPUs, and to run the parts as they are, which takes no time to compile.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from e2e.engine.offline import Offline
from e2e.locate.probing.probe import runner_of
from e2e.locate.search import search
from e2e.workload.messages import Locate, StartEngine
from e2e.workload.prompts import batch, needles
from support.planted_causes import LAYERS, nudged, tell

PART = f"compiled part from {LAYERS}.2.self_attn.attn to {LAYERS}.3.self_attn.attn"
PLACES = {
    "part": ("model", PART),
    "attention": (f"{LAYERS}.5.self_attn.attn", "CPUAttentionBackendImpl.forward"),
}
"""Where each plant is."""
CONTROL, BOTH = "control", "both"
_PROJECTION = f"{LAYERS}.3.self_attn.qkv_proj"
_TOKENS = 64
_ON: set[str] = set()


@torch.library.custom_op("planted::in_part", mutates_args=())
def in_part(x: torch.Tensor, name: str) -> torch.Tensor:
    """An operator in a compiled part whose result depends on how many rows it is given; as a control, on nothing."""
    here = name == _PROJECTION and (("part" in _ON and len(x) > _TOKENS) or CONTROL in _ON)
    return nudged(x) if here else x.clone()


@in_part.register_fake
def _(x: torch.Tensor, name: str) -> torch.Tensor:
    return torch.empty_like(x)


def cut_into_parts() -> None:
    """Have vLLM compile a model for a CPU as it does for GPUs."""
    from vllm.config import CompilationMode
    from vllm.model_executor.layers.linear import QKVParallelLinear
    from vllm.platforms.cpu import CpuPlatform

    usual = CpuPlatform.check_and_update_config.__func__

    def check(cls: Any, config: Any) -> None:
        usual(cls, config)
        if not config.model_config.enforce_eager:
            config.compilation_config.mode = CompilationMode.VLLM_COMPILE
            config.compilation_config.backend = "eager"
            config.compilation_config.compile_sizes = []
            config.compilation_config.splitting_ops = None
            config.compilation_config.set_splitting_ops_for_v1(all2all_backend="naive")

    CpuPlatform.check_and_update_config = classmethod(check)
    projected = QKVParallelLinear.forward

    def forward(self: Any, x: torch.Tensor) -> Any:
        out, bias = projected(self, x)
        return torch.ops.planted.in_part(out, self.prefix), bias

    QKVParallelLinear.forward = forward


def plant_attention(runner: Any) -> None:
    """Wrap one layer's attention."""
    impl = dict(runner.model.named_modules())[PLACES["attention"][0]].impl
    usual: Callable[..., Any] = impl.forward

    def forward(layer: Any, query: torch.Tensor, *more: Any, **named: Any) -> Any:
        out = usual(layer, query, *more, **named)
        if ("attention" in _ON and len(query) > _TOKENS) or CONTROL in _ON:
            out.copy_(nudged(out))
        return out

    impl.forward = forward


def main() -> None:
    """Search with both plants on, and with both as controls."""
    cut_into_parts()
    request = StartEngine.model_validate_json(sys.stdin.read())
    engine = Offline(request.model_copy(update={"looked_into": True}))
    plant_attention(runner_of(engine.engine))
    hidden = tuple(needles(request.options, engine.text, engine.vocabulary))
    company = batch(request.options, 0, hidden, engine.vocabulary)
    asked = Locate(trials=(0,), needle=1, directory=str(Path.cwd()), all_causes=True)
    for title, on in ((BOTH, PLACES), (CONTROL, (CONTROL,))):
        _ON.clear()
        _ON.update(on)
        tell(title, search(engine, "baseline", request.options, hidden, [company], asked))


if __name__ == "__main__":
    main()
