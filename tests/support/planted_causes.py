"""Faults in one real engine of vLLM, each of which makes a module change with its batch, and what is found of them.

Run as a program, it prints a line of JSON for every search; with a number, of so many for each plant alone.
A plant is either off, on (other bits in larger steps), shy (the same, as long as no operator around it is watched), or
a control (other bits in every step alike).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from e2e.engine.offline import Offline
from e2e.locate.against.compare import with_engine
from e2e.locate.against.own_pass import keep
from e2e.locate.probing.probe import runner_of
from e2e.locate.records import Located
from e2e.locate.search import search
from e2e.workload.messages import Locate, StartEngine
from e2e.workload.options import Options
from e2e.workload.prompts import batch, needles
from kernels_bench.workers.lifetime import made_to_stay

LAYERS = "model.layers"
PLACES = {
    "norm": (f"{LAYERS}.0.input_layernorm", ""),
    "gemm": (f"{LAYERS}.0.self_attn.qkv_proj", "planted.nudge"),
    "cache write": (f"{LAYERS}.1.self_attn.attn", "CPUAttentionBackendImpl.do_kv_cache_update"),
    "attention": (f"{LAYERS}.2.self_attn.attn", "CPUAttentionBackendImpl.forward"),
    "sampler": ("sampler", ""),
}
"""Where each plant is, and so what is to be found: the operator; where no operator is the cause, the module."""

TOGETHER = (("norm", "sampler"), ("gemm", "cache write"), ("attention",), tuple(PLACES))
"""Which plants are on in one search."""
CONTROLS, BESIDE, SHY = "controls", "controls beside the sampler", "norm, unless its operators are watched"
ITSELF, ALTERED = "against itself", "against itself with every control"
KEPT, ATTENTION = "pass.safetensors", "attention.safetensors"

_TOKENS, _SEQUENCES = 64, 4
_STATE: dict[str, str] = dict.fromkeys(PLACES, "off")


def nudged(x: torch.Tensor) -> torch.Tensor:
    """A larger number, of one element of every row, whatever it was."""
    out = x.clone()
    flat = out.view(len(out), -1)
    flat[:, 1] += (flat[:, 1].abs() + 1) / 16
    return out


@torch.library.custom_op("planted::nudge", mutates_args=())
def nudge(x: torch.Tensor) -> torch.Tensor:
    """An operator whose result depends on how many rows it is given; as a control, on nothing."""
    return nudged(x) if _wanted("gemm", len(x)) else x.clone()


def _wanted(name: str, rows: int) -> bool:
    on = _STATE[name] == "on" or (_STATE[name] == "shy" and _get_current_dispatch_mode() is None)
    return _STATE[name] == "control" or (on and rows > (_SEQUENCES if name == "sampler" else _TOKENS))


def plant(runner: Any) -> None:
    """Wrap one module for each plant; while a plant is off its module is what it was."""
    modules = dict(runner.model.named_modules())
    _wrap(modules[PLACES["norm"][0]], "forward", _norm)
    _wrap(modules[PLACES["gemm"][0]], "forward", _gemm)
    _wrap(modules[PLACES["cache write"][0]].impl, "do_kv_cache_update", _cache_write)
    _wrap(modules[PLACES["attention"][0]].impl, "forward", _attention)
    _wrap(runner.sampler, "forward", _sampler)


def _wrap(owner: Any, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    setattr(owner, name, wrapper(getattr(owner, name)))


def _norm(inner: Callable[..., Any]) -> Callable[..., Any]:
    def forward(x: torch.Tensor, *more: Any) -> Any:
        out = inner(x, *more)
        return nudged(out) if _wanted("norm", len(x)) else out

    return forward


def _gemm(inner: Callable[..., Any]) -> Callable[..., Any]:
    def forward(x: torch.Tensor) -> Any:
        out, bias = inner(x)
        return (out if _STATE["gemm"] == "off" else torch.ops.planted.nudge(out)), bias

    return forward


def _cache_write(inner: Callable[..., Any]) -> Callable[..., Any]:
    def update(layer: Any, key: torch.Tensor, *more: Any) -> Any:
        return inner(layer, nudged(key) if _wanted("cache write", len(key)) else key, *more)

    return update


def _attention(inner: Callable[..., Any]) -> Callable[..., Any]:
    def forward(layer: Any, query: torch.Tensor, *more: Any, **named: Any) -> Any:
        out = inner(layer, query, *more, **named)
        if _wanted("attention", len(query)):
            out.copy_(nudged(out))
        return out

    return forward


def _sampler(inner: Callable[..., Any]) -> Callable[..., Any]:
    def forward(logits: torch.Tensor, *more: Any, **named: Any) -> Any:
        many = _wanted("sampler", len(logits))
        out = inner(logits, *more, **named)
        if many:
            out.logprobs_tensors.logprobs.sub_(0.5)
        return out

    return forward


@contextmanager
def planted(states: Mapping[str, str]) -> Iterator[None]:
    """These plants, by name, are on or controls in this context."""
    _STATE.update(states)
    try:
        yield
    finally:
        _STATE.update(dict.fromkeys(_STATE, "off"))


def title_of(names: Sequence[str]) -> str:
    """The name of a search with these plants on."""
    return " and ".join(names)


def again(times: int) -> None:
    """Search so many times for each plant alone, in so many trials, and as often with all of them as controls."""
    engine, hidden, options = started()
    for trial in range(times):
        company = batch(options, trial, hidden, engine.vocabulary)
        asked = Locate(trials=(trial,), needle=trial % len(hidden), directory=str(Path.cwd()), all_causes=True)
        searches = {name: {name: "on"} for name in PLACES} | {CONTROLS: dict.fromkeys(PLACES, "control")}
        for title, states in searches.items():
            with planted(states):
                tell(f"{title} {trial}", search(engine, "baseline", options, hidden, [company], asked))


def started() -> tuple[Offline, tuple[tuple[int, ...], ...], Options]:
    """The engine that standard input asks for, with every plant in it; its needles; and what it was given."""
    request = StartEngine.model_validate_json(sys.stdin.read())
    with made_to_stay():
        from vllm import LLM  # noqa: F401 - as an arm's process does before it starts an engine
    engine = Offline(request.model_copy(update={"looked_into": True}))
    plant(runner_of(engine.engine))
    return engine, tuple(needles(request.options, engine.text, engine.vocabulary)), request.options


def main() -> None:
    """Search with some plants on, with all, and with others as controls; and compare the engine with itself."""
    engine, hidden, given = started()
    trial = batch(given, 0, hidden, engine.vocabulary)
    # More tokens than come, as of an answer that ends by itself.
    options = given.model_copy(update={"max_tokens": given.max_tokens + 1})
    searches = {title_of(names): dict.fromkeys(names, "on") for names in TOGETHER}
    controls = dict.fromkeys(PLACES, "control")
    searches |= {CONTROLS: controls, BESIDE: controls | {"sampler": "on"}, SHY: {"norm": "shy"}}
    for title, states in searches.items():
        asked = Locate(trials=(0,), needle=1, directory=str(Path.cwd()), all_causes=True)
        with planted(states):
            found = search(engine, "baseline", options, hidden, [trial], asked)
        tell(title, found)
        if states.keys() == {"attention"} and found.call is not None:
            (Path.cwd() / found.call).rename(Path.cwd() / ATTENTION)
    keep(engine, ("baseline", options, 1), hidden[1], Path.cwd() / KEPT, modules_only=False)
    tell(ITSELF, with_engine(engine, Path.cwd() / KEPT, "itself", put=True))
    with planted(controls):
        tell(ALTERED, with_engine(engine, Path.cwd() / KEPT, "itself", put=True))


def tell(title: str, found: Located) -> None:
    """Print what was found."""
    print(json.dumps({"title": title, "found": found.model_dump()}), flush=True)


if __name__ == "__main__":
    again(int(sys.argv[1])) if sys.argv[1:] else main()
