"""The all-reduces of an installed vLLM.  Their CUDA graphs, and one stage of vLLM 0.33, have not run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kernels_bench.arms.base import Arm, Kernel
from kernels_bench.arms.ranks.kernels import Collective, Groups, RowParallelLinear
from kernels_bench.arms.ranks.nccl import VLLM_NEWER
from kernels_bench.arms.vllm.installed import environment, file_of, missing, version
from kernels_bench.records.cases import Device, claimed
from kernels_bench.relations import relations

_CALLS = f"{__package__}.vllm_calls"
_WHOLE_BYTES = 16
"""Rows whose bytes are a multiple of it make a message that vLLM's own all-reduce takes, however many they are."""


def _custom() -> Mapping[str, Kernel]:
    return {"all_reduce": Collective(Groups(), f"{_CALLS}:custom_all_reduce")}


def _batch_invariant() -> Mapping[str, Kernel]:
    groups = Groups()
    return {
        "all_reduce": Collective(groups, f"{_CALLS}:custom_all_reduce", whole_bytes=_WHOLE_BYTES),
        "row_parallel_linear": RowParallelLinear(groups, f"{_CALLS}:batch_invariant_linear", whole_bytes=_WHOLE_BYTES),
    }


def _pynccl() -> Mapping[str, Kernel]:
    groups = Groups()
    return {
        "all_reduce": Collective(groups, f"{_CALLS}:pynccl_all_reduce"),
        "reduce_scatter": Collective(groups, f"{_CALLS}:pynccl_reduce_scatter", scattered=True),
    }


def unavailable(device: Device) -> str | None:
    """Needs GPUs, and vLLM."""
    return missing(device, "vLLM's all-reduces need CUDA GPUs, one a rank")


def _unavailable_in_parts(device: Device) -> str | None:
    """Needs a vLLM whose own all-reduce takes large messages in parts: an older one's mode leaves them to NCCL."""
    if (reason := unavailable(device)) is not None:
        return reason
    found = file_of("vllm.distributed.device_communicators.custom_all_reduce")
    if found is not None and "batch_invariant" in found.read_text(encoding="utf-8"):
        return None
    return f"the batch-invariant mode of vLLM {version()} adds by NCCL, which is the arm nccl-vllm"


def _arm(
    name: str,
    summary: str,
    kernels: Callable[[], Mapping[str, Kernel]],
    variables: Mapping[str, str],
    claims: bool = False,
    lacking: Callable[[Device], str | None] = unavailable,
) -> Arm:
    # Whether GPUs reach each other's memory is asked of the driver: vLLM's own trial takes a process for each pair.
    usual = {**environment(batch_invariant=claims), "VLLM_SKIP_P2P_CHECK": "1"}
    return Arm(
        name=name,
        kernels=kernels,
        # Of another TP size vLLM says nothing.
        claims=claims and tuple(one for one in relations() if claimed(True, one) and one != "tensor_parallel"),
        summary=summary,
        environment={**usual, **variables},
        unavailable=lacking,
        provenance=lambda: f"vLLM {version()}",
        offers=tuple(kernels()),
    )


ARMS = (
    _arm("vllm-custom", "vLLM's own all-reduce, one stage or two as it chooses, and PyNccl from 8 MiB on", _custom, {}),
    _arm(
        "vllm-custom-1stage",
        "vLLM 0.33's batch-invariant mode: its own all-reduce in one stage, NCCL pinned",
        _batch_invariant,
        {"VLLM_CUSTOM_ALLREDUCE_ALGO": "1stage", **VLLM_NEWER},
        claims=True,
        lacking=_unavailable_in_parts,
    ),
    _arm(
        "vllm-custom-2stage",
        "vLLM's own all-reduce, always in two stages, and PyNccl from 8 MiB on",
        _custom,
        {"VLLM_CUSTOM_ALLREDUCE_ALGO": "2stage"},
    ),
    _arm("vllm-pynccl", "PyNccl, vLLM's communicator, as NCCL chooses", _pynccl, {}),
)
