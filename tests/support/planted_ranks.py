"""Faults in a real engine of two ranks, and what is found of them: one in a rank alone, one in what adds over ranks.

Run as a program it prints a line of JSON for every search, with the engine that standard input asks for.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from e2e.engine.offline import Offline
from e2e.locate.search import search
from e2e.locate.session import worker_itself
from e2e.workload.messages import Locate, StartEngine
from e2e.workload.prompts import batch, needles
from support.planted_causes import nudged

ONE_RANK, SUM, BOTH, CONTROLS, NOTHING = "one rank", "sum", "both", "controls", "nothing"
GEMM, OVER = ("model.layers.0.self_attn.qkv_proj", "planted.nudge_of_a_rank"), "vllm.all_reduce"
_TOKENS = 64
_ON: dict[str, str] = {}
"""In a rank's process: which faults are on there, or are controls, which alter every batch alike."""


@torch.library.custom_op("planted::nudge_of_a_rank", mutates_args=())
def nudge(x: torch.Tensor) -> torch.Tensor:
    """An operator whose result depends on how many rows it is given."""
    return nudged(x) if _wanted(ONE_RANK, len(x)) else x.clone()


def _wanted(name: str, rows: int) -> bool:
    return _ON.get(name) == "control" or (_ON.get(name) == "on" and rows > _TOKENS)


def plant(worker: Any) -> None:
    """In every rank: an operator after a product, and another sum over ranks inside of vLLM's own operator."""
    from vllm.distributed.parallel_state import GroupCoordinator

    own = worker_itself(worker)
    module = dict(own.model_runner.model.named_modules())[GEMM[0]]
    product, added = module.forward, GroupCoordinator._all_reduce_out_place

    def forward(x: torch.Tensor) -> Any:
        out, bias = product(x)
        return torch.ops.planted.nudge_of_a_rank(out), bias

    def add(self: Any, x: torch.Tensor) -> torch.Tensor:
        out = added(self, x)
        return nudged(out) if _wanted(SUM, len(x)) else out

    module.forward = forward
    GroupCoordinator._all_reduce_out_place = add


def switch(worker: Any, states: dict[str, str]) -> None:
    """Which faults are on; that of one rank is in the second alone."""
    rank = worker_itself(worker).rank
    _ON.clear()
    _ON.update({name: state for name, state in states.items() if name == SUM or rank == 1})


def main() -> None:
    """Search with each fault on, with both, with both as controls, and with none."""
    request = StartEngine.model_validate_json(sys.stdin.read())
    options = request.options
    engine = Offline(request.model_copy(update={"looked_into": True}))
    hidden = tuple(needles(options, engine.text, engine.vocabulary))
    executor = engine.engine.engine_core.engine_core.model_executor
    executor.collective_rpc(plant)
    trial = batch(options, 0, hidden, engine.vocabulary)
    asked = Locate(trials=(0,), needle=1, directory=str(Path.cwd()), all_causes=True)
    searches = {
        ONE_RANK: {ONE_RANK: "on"},
        SUM: {SUM: "on"},
        BOTH: {ONE_RANK: "on", SUM: "on"},
        CONTROLS: {ONE_RANK: "control", SUM: "control"},
        NOTHING: {},
    }
    for title, states in searches.items():
        executor.collective_rpc(switch, args=(states,))
        found = search(engine, "baseline", options, hidden, [trial], asked)
        print(json.dumps({"title": title, "found": found.model_dump()}), flush=True)


if __name__ == "__main__":
    # Under its own name, by which the ranks' processes import it: what is of ``__main__`` they would get a copy of.
    from support.planted_ranks import main as run

    run()
