"""Where vLLM calls what a plan has kernels for, and how they are put there; 0.26 to 0.33.

* Linears that are not quantised and the LM head: on a GPU in batch-invariant mode both call ``linear_batch_invariant``,
  by a name in their own modules; on a CPU whatever ``dispatch_cpu_unquantized_gemm`` gave the layer.
* Norms: `RMSNorm.forward_cuda`, which is eager's, and `forward_native`, which the compiler traces and a CPU runs.
* Attention stays as its backend has it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from kernels_bench.arms.vllm.installed import version
from kernels_bench.console.errors import UsageError
from kernels_bench.plan.file import digest_of, elsewhere, parsed, plan_bytes
from kernels_bench.plan.record import Plan
from kernels_bench.planned import operators
from kernels_bench.planned.tables import LINEAR, LINEAR_BIAS, Choice, Key, choices_of, replaced
from kernels_bench.planned.use import PlanUse
from kernels_bench.planned.variables import DEFAULT, FORCE, REPORT, VARIABLE
from kernels_bench.records.cases import Device
from profiles.files import write_whole
from profiles.instruments.environment import Environment, read_environment

SWITCH = "VLLM_BATCH_INVARIANT"
_LAYERS = "vllm.model_executor.layers"


def put_in_place(variables: Mapping[str, str]) -> None:
    """Do what `kernels_bench.planned.plugin.register` says.

    Args:
        variables: the process's.

    Raises:
        CommandError: as there.
    """
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    if not on_cpu and variables.get(SWITCH) != "1":
        _tell(f"{VARIABLE} is set and {SWITCH}=1 is not: vLLM's kernels stay as they are")
        return
    # Of a GPU NVML is asked: a process that has begun to use CUDA could start no engine any more.
    name = "" if on_cpu else str(current_platform.get_device_name())
    capability = None if on_cpu else current_platform.get_device_capability()
    device = Device(
        type="cpu" if on_cpu else "cuda",
        name=name,
        capability=None if capability is None else (capability.major, capability.minor),
    )
    _place(_Source.of(variables[VARIABLE], device, variables.get(FORCE) == "1"), device)


class _Source:
    """Where kernels come from: a plan's file, or none."""

    def __init__(self, name: str, digest: str, plan: Plan | None) -> None:
        self.name, self.digest = name, digest
        self.choices: Mapping[Key, Choice] = {} if plan is None else choices_of(plan)
        self.replaced = () if plan is None else tuple(replaced(plan))

    @classmethod
    def of(cls, name: str, device: Device, force: bool) -> _Source:
        """What a name stands for."""
        if name == DEFAULT:
            return cls(name, "", None)
        path = Path(name)
        if not path.is_absolute():
            raise UsageError(f"{VARIABLE}={name}: expected the absolute path of a plan's file, or {DEFAULT}")
        content = plan_bytes(path)
        plan = parsed(content, path)
        refuse_elsewhere(plan, device, read_environment(), force)
        return cls(name, digest_of(content), plan)


def refuse_elsewhere(plan: Plan, device: Device, now: Environment, force: bool) -> None:
    """A plan is for the device and the versions that it was made with; how either is set is the engine's to say.

    Raises:
        UsageError: something differs, and ``force`` is not set.
    """
    # An engine binds itself to some of the processor's cores, and sets variables of its own.
    found = elsewhere(plan, device, now, {"variables": {}, "usable_cores": None})
    if found and not force:
        raise UsageError(f"the plan was made elsewhere: {'; '.join(found)}; {FORCE}=1 takes it all the same")


@cache
def _once() -> dict[str, str]:
    """What this process has put in place already."""
    return {}


def _place(source: _Source, device: Device) -> None:
    if _once():
        return
    _once()[source.name] = source.digest
    planned = operators.Planned(source.choices, device, _tell)
    operators.install(planned)
    # What was compiled ahead of time, without the plan, would not come by here again.
    os.environ["VLLM_USE_AOT_COMPILE"] = "0"
    _place_linears(device)
    _place_norms()
    _look_when_used(source, planned)
    for choice in source.choices.values():
        _tell(f"{choice.key}: {choice.in_words}")
    for line in source.replaced:
        _tell(line)
    if not source.digest:
        _tell("no plan's file: each shape gets one kernel for every M")


def _module(name: str, *needed: str) -> Any:
    """A module of vLLM's layers, with all that is replaced in it."""
    module = importlib.import_module(f"{_LAYERS}.{name}")
    if missing := [one for one in needed if not hasattr(module, one)]:
        raise UsageError(f"vLLM {version()}: {_LAYERS}.{name} has no {', '.join(missing)}, so no plan can be put there")
    return module


def _place_linears(device: Device) -> None:
    if device.type == "cuda":
        for name in ("linear", "vocab_parallel_embedding"):
            _module(name, "linear_batch_invariant").linear_batch_invariant = operators.linear
        return
    utils = _module("utils", "dispatch_cpu_unquantized_gemm")
    usual = utils.dispatch_cpu_unquantized_gemm

    def dispatch(layer: Any, remove_weight: bool) -> None:
        if layer.weight.is_meta or layer.weight.ndim != 2:
            usual(layer, remove_weight)
        else:  # its weight stays as it is: the plan's kernels take it unpacked
            layer.cpu_linear = operators.linear

    utils.dispatch_cpu_unquantized_gemm = dispatch


def _place_norms() -> None:
    norm = _module("layernorm", "RMSNorm").RMSNorm
    for name in ("forward_native", "forward_cuda"):
        setattr(norm, name, _norm(getattr(norm, name)))


def _norm(usual: Callable[..., Any]) -> Callable[..., Any]:
    """A norm of whole rows by the plan's kernels; of heads, or without weights, vLLM's own."""

    def forward(self: Any, x: Any, residual: Any = None) -> Any:
        takes = x.dim() == 2 and self.has_weight and self.variance_size_override is None
        if not takes or self.weight.dtype != x.dtype:
            return usual(self, x, residual)
        weight = self.weight.data
        if residual is None:
            return operators.rms_norm(x, weight, self.variance_epsilon)
        return operators.fused_add_rms_norm(x, residual, weight, self.variance_epsilon)

    return forward


def _look_when_used(source: _Source, planned: operators.Planned) -> None:
    """Have the process that has the model see what became of the plan, once it has computed a first batch."""
    from vllm.v1.worker.worker_base import WorkerWrapperBase

    usual = WorkerWrapperBase.execute_model

    def execute_model(self: Any, *arguments: Any, **named: Any) -> Any:
        """The worker's first batch, after which its method is its own again."""
        done = usual(self, *arguments, **named)
        WorkerWrapperBase.execute_model = usual
        use = _use(source, planned, self.worker.model_runner.get_model())
        refuse_unused(use)
        _tell(use.in_words)
        if report := os.environ.get(REPORT):
            write_whole(Path(report), use.model_dump_json())
        return done

    WorkerWrapperBase.execute_model = execute_model


def _use(source: _Source, planned: operators.Planned, model: Any) -> PlanUse:
    linears, norms = list(_linears(model)), _norms(model)
    return PlanUse(
        plan=source.name,
        digest=source.digest,
        vllm=str(version()),
        linears=len(linears),
        linears_planned=sum(map(planned.has, linears)),
        norms=norms,
        uses=tuple(choice.use for choice in planned.choices if choice.calls or choice.planned),
    )


def refuse_unused(use: PlanUse) -> None:
    """A plan that has no kernel for a model, or whose kernels nobody called, would be a baseline under another name.

    Raises:
        UsageError: it is one.
    """
    called = [one for one in use.uses if one.calls]
    linears = [one.key for one in called if one.key.startswith((f"{LINEAR}/", f"{LINEAR_BIAS}/"))]
    if not linears:
        raise UsageError(f"vLLM {use.vllm} computed a batch without a call of the plan's operators")
    if use.digest and not any(one.planned for one in called):
        wanted = ", ".join(linears)
        raise UsageError(f"{use.plan}: the plan has none of the model's shapes; the engine called {wanted}")


def _linears(model: Any) -> Any:
    """The shape of each layer that multiplies by weights that are not quantised."""
    linear = _module("linear", "LinearBase", "UnquantizedLinearMethod")
    embedding = _module("vocab_parallel_embedding", "ParallelLMHead", "UnquantizedEmbeddingMethod")
    for layer in model.modules():
        method = getattr(layer, "quant_method", None)
        is_linear = isinstance(layer, linear.LinearBase) and isinstance(method, linear.UnquantizedLinearMethod)
        is_head = isinstance(layer, embedding.ParallelLMHead)
        if is_linear or (is_head and isinstance(method, embedding.UnquantizedEmbeddingMethod)):
            n, k = layer.weight.shape
            added = getattr(layer, "bias", None) is not None and not getattr(layer, "skip_bias_add", False)
            yield Key(LINEAR_BIAS if added else LINEAR, n, k, operators.short(layer.weight.dtype))


def _norms(model: Any) -> int:
    norm = _module("layernorm", "RMSNorm").RMSNorm
    return sum(isinstance(layer, norm) for layer in model.modules())


def _tell(line: str) -> None:
    """Whatever vLLM's logging is set to: who named a plan is to see what became of it."""
    print(f"samebits plan: {line}", file=sys.stderr, flush=True)
