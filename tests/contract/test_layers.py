"""The house stays in order: small folders that say what belongs there, no circles, and known private names of others.

That imports point down only is checked by ``lint-imports``.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grimp
import pytest
import torch

from support import ROOT
from support.processes import LIMIT_S, environment

PACKAGES = ("kernels_bench", "e2e", "profiles")
FOLDERS = sorted(
    {path.parent.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}, key=str
)
MOST_MODULES = 9
ONE_FILE_AN_ENTRY = re.compile(r"kernels_bench/(relations|faults/planted|operators/layers)")


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_a_folder_can_be_taken_in_at_a_glance(folder: Path) -> None:
    modules = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__", "__main__"}
    assert len(modules) <= MOST_MODULES or ONE_FILE_AN_ENTRY.fullmatch(str(folder)), sorted(modules)


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_a_folder_says_what_belongs_there(folder: Path) -> None:
    said = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text()))
    assert said, f"{folder}/__init__.py has no docstring"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions, and those for types alone, count as well."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert sum(map(len, imports.values())) > 500
    assert circles(imports) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which reaches all others of its group."""
    reached = {module: set(reachable(imports, module)) for module in imports}
    groups = {
        tuple(sorted(other for other in reached[module] if module in reached[other]))
        for module in imports
        if module in reached[module]
    }
    return sorted(map(list, groups))


def reachable(imports: dict[str, set[str]], module: str) -> Iterator[str]:
    """All that a module imports, and those again; itself too if it comes back to it."""
    seen: set[str] = set()
    left = [module]
    while left:
        for other in imports[left.pop()]:
            if other not in seen:
                seen.add(other)
                left.append(other)
                yield other


# --- what belongs to others --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Private:
    """A name of another library that may go in any release: who needs it, and why no public one will do."""

    name: str
    """Its module, then within it: ``package.module:Class.attribute``."""
    caller: str
    why: str
    only_on_cuda: bool = False

    @property
    def library(self) -> str:
        return re.split(r"[.:]", self.name)[0]


FLEX, GRAPH = "kernels_bench/arms/pytorch/flex_attention.py", "kernels_bench/device/kinds/cuda.py"
LAYERS = "kernels_bench/arms/vllm/calls/layers.py"
STATES = "kernels_bench/arms/vllm/calls/state.py"
DELTAS = "kernels_bench/arms/vllm/calls/gated_delta.py"
FLASH = "kernels_bench/arms/vllm/flash_attention3.py"
OFFLINE, STEPS = "e2e/engine/offline.py", "e2e/engine/step_ranges.py"
TOLD = "the engine's own steps are announced by its scheduler, and by nothing public"
PROBE, WATCHING = "e2e/locate/probing/probe.py", "e2e/locate/probing/watching.py"
ATTENDED, HUGGING_FACE = "e2e/locate/calls/cpu_attention.py", "e2e/locate/against/hugging_face.py"
SEEN = "nothing public tells what runs inside an engine, and whose rows are whose"
TIMES = "when a sequence's first and last token came"
PRIVATE = (
    Private("torch.cuda:_sleep", "kernels_bench/timing/stopwatches/cuda_events.py", "keeps a stream busy for a while"),
    Private("torch._dynamo.config:recompile_limit", FLEX, "as many sizes are compiled as are asked for"),
    Private("torch._dynamo.config:fail_on_recompile_limit_hit", FLEX, "an error in place of another kernel"),
    Private("torch._C:_cuda_endAllocateToPool", GRAPH, "a capture that failed gives memory back", only_on_cuda=True),
    Private("torch._C:_cuda_releasePool", GRAPH, "a capture that failed gives memory back", only_on_cuda=True),
    Private("vllm._custom_ops:rms_norm", "kernels_bench/arms/vllm/default.py", "the norm that models call"),
    Private("vllm._custom_ops:fused_add_rms_norm", "kernels_bench/arms/vllm/default.py", "likewise"),
    Private("vllm._custom_ops:rotary_embedding", LAYERS, "the embedding that models call"),
    Private(
        "vllm.v1.worker.gpu.sample.logprob:compute_token_logprobs",
        LAYERS,
        "the kernel without the sampler",
    ),
    Private("vllm.v1.sample.ops.topk_topp_sampler:apply_top_k_top_p", LAYERS, "likewise"),
    *(
        Private(f"vllm._custom_ops:{name}", "kernels_bench/arms/vllm/calls/fp8.py", "what layers in eight bits call")
        for name in ("scaled_fp8_quant", "rms_norm_dynamic_per_token_quant", "cutlass_scaled_mm")
    ),
    *(
        Private(
            f"vllm.model_executor.layers.quantization.utils.fp8_utils:{name}",
            "kernels_bench/arms/vllm/calls/fp8.py",
            "likewise",
        )
        for name in ("per_token_group_quant_fp8", "w8a8_triton_block_scaled_mm")
    ),
    Private("vllm.model_executor.layers.mamba.ops.mamba_ssm:selective_state_update", STATES, "the step of a mixer"),
    Private("vllm.model_executor.layers.mamba.ops.ssd_combined:mamba_chunk_scan_combined_varlen", STATES, "its scan"),
    *(
        Private(f"vllm.third_party.flash_linear_attention.ops:{name}", DELTAS, "the gated delta rule of a layer")
        for name in ("chunk_gated_delta_rule", "fused_recurrent_gated_delta_rule")
    ),
    *(
        Private(
            f"vllm.model_executor.layers.mamba.ops.cpu.mamba_ssm:{name}",
            "kernels_bench/arms/vllm/cpu/state.py",
            "on CPUs",
        )
        for name in ("selective_state_update", "_mamba_chunk_scan_combined_fwd_cpu")
    ),
    Private(
        "torch:_scaled_mm", "kernels_bench/arms/pytorch/calls/fp8.py", "the product that the public one is made of"
    ),
    Private("torch.cpu:_init_amx", "kernels_bench/arms/vllm/cpu/routed.py", "without it the kernel ends its process"),
    Private("torch.cpu:_is_amx_tile_supported", "kernels_bench/arms/vllm/cpu/fp8.py", "as vLLM asks"),
    Private(
        "vllm.v1.attention.ops.triton_unified_attention:unified_attention",
        "kernels_bench/arms/vllm/triton_attention.py",
        "the kernel without the engine around it",
    ),
    Private(
        "vllm.v1.attention.ops.triton_decode_attention:decode_attention_fwd",
        "kernels_bench/arms/vllm/triton_mla.py",
        "the kernel without the engine around it",
    ),
    *(
        Private(
            f"vllm.vllm_flash_attn:{name}", "kernels_bench/arms/vllm/flash_attention3.py", "the kernel itself", True
        )
        for name in ("flash_attn_varlen_func", "get_scheduler_metadata")
    ),
    Private("vllm.v1.engine.llm_engine:LLMEngine.vllm_config", OFFLINE, "what was decided for the engine"),
    Private("vllm.v1.engine.llm_engine:LLMEngine.engine_core", OFFLINE, TOLD),
    Private("vllm.v1.engine.core_client:InprocClient.engine_core", OFFLINE, TOLD),
    Private("vllm.v1.engine.core:EngineCore.scheduler", OFFLINE, TOLD),
    Private("vllm.v1.core.sched.scheduler:Scheduler.schedule", STEPS, TOLD),
    Private("vllm.v1.core.sched.output:SchedulerOutput.num_scheduled_tokens", STEPS, TOLD),
    Private("vllm.v1.core.sched.output:SchedulerOutput.total_num_scheduled_tokens", STEPS, TOLD),
    Private("torch.utils._python_dispatch:TorchDispatchMode", WATCHING, "sees every operator"),
    Private("torch._C:_DisableTorchDispatch", "e2e/locate/probing/record.py", "what is computed beside is not seen"),
    Private("vllm._custom_ops:create_onednn_mm", "e2e/locate/calls/capture.py", "the weight before it is packed"),
    *(
        Private(f"vllm._custom_ops:{name}", ATTENDED, "attention without the engine around it")
        for name in ("cpu_attn_get_scheduler_metadata", "cpu_attention_with_kv_cache")
    ),
    Private("torch.cpu:_init_amx", ATTENDED, "as in an engine, where a product has asked for it"),
    Private("transformers.modeling_utils:ALL_ATTENTION_FUNCTIONS", HUGGING_FACE, "attention is no module"),
    Private("vllm.v1.engine.core:EngineCore.model_executor", PROBE, SEEN),
    *(
        Private(f"vllm.v1.worker.gpu_model_runner:GPUModelRunner.{name}", PROBE, SEEN)
        for name in ("execute_model", "sample_tokens", "input_batch", "kv_cache_config", "sampler")
    ),
    Private("vllm.v1.attention.backend:AttentionBackend.forward_includes_kv_cache_update", PROBE, SEEN),
    Private("vllm.v1.worker.block_table:BlockTable.get_numpy_array", WATCHING, SEEN),
    Private("vllm.v1.worker.gpu_input_batch:InputBatch.req_ids", WATCHING, SEEN),
    Private("vllm.v1.worker.gpu_input_batch:InputBatch.num_computed_tokens_cpu", "e2e/locate/seen/rows.py", SEEN),
    *(
        Private(f"vllm.v1.metrics.stats:RequestStateStats.{name}", OFFLINE, TIMES)
        for name in ("first_token_ts", "last_token_ts", "first_token_latency")
    ),
)

# Which of the names are there; an attribute that is made in __init__ stands in the source of its class.
LOOKED_FOR = """
import importlib, inspect, json, sys

def there(name):
    module, _, path = name.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        if hasattr(found, part):
            found = getattr(found, part)
        elif inspect.isclass(found):
            return part in getattr(found, "__annotations__", {}) or f"self.{part}" in inspect.getsource(found)
        else:
            return False
    return True

found = {}
for name in json.loads(sys.argv[1]):
    try:
        found[name] = "" if there(name) else "is gone"
    except ImportError as error:
        found[name] = f"cannot be imported: {error}"
print("\\n" + json.dumps(found))
"""


VLLMS = "engine_full"
"""What is run wherever vLLM is moved to another version: its names are asked for then, which imports all of it."""


@pytest.fixture(scope="module")
def gone(request: pytest.FixtureRequest) -> dict[str, str]:
    """Of every private name why it cannot be had; asked in a process of its own, for vLLM changes what imports it."""
    asked_for = [one for one in PRIVATE if one.library != "vllm" or VLLMS in request.config.getoption("markexpr")]
    names = [one.name for one in asked_for if importlib.util.find_spec(one.library)]
    command = [sys.executable, "-c", LOOKED_FOR, json.dumps(names)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    "one",
    [pytest.param(one, marks=getattr(pytest.mark, VLLMS) if one.library == "vllm" else ()) for one in PRIVATE],
    ids=lambda one: f"{one.name} for {one.caller}",
)
def test_a_private_name_is_still_there(one: Private, gone: dict[str, str]) -> None:
    if one.name not in gone:
        pytest.skip(f"needs {one.library}")
    if one.only_on_cuda and not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    assert not gone[one.name], f"{one.name} {gone[one.name]}: {one.caller} needs it ({one.why})"


def test_every_private_name_has_a_caller_that_calls_it() -> None:
    for one in PRIVATE:
        assert re.search(rf"\b{one.name.rpartition('.')[2].rpartition(':')[2]}\b", (ROOT / one.caller).read_text()), one


def test_every_private_name_of_torch_is_known() -> None:
    known = {one.name.replace(":", ".") for one in PRIVATE}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for name in re.findall(r"\btorch(?:\.\w+)*?\._\w+[\w.]*", path.read_text()):
                private = name != "torch.__version__" and any(part.startswith("_") for part in name.split("."))
                private = private and not name.startswith("torch.ops.")  # where other libraries' operators are
                assert not private or any(one.startswith(name) for one in known), f"{path}: {name} is not in PRIVATE"
