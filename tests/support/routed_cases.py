"""Operators whose rows choose experts or an adapter, at shapes that are verified in a moment."""

from __future__ import annotations

import torch

from kernels_bench.arms import Kernel
from kernels_bench.operators import operators
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.results import Verification
from kernels_bench.relations import Setting, relations
from kernels_bench.relations.base import sweep
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest, bind
from kernels_bench.verification.verifier import Verifier

SHAPES = {
    "router_gemm": Shape(label="test", n=19, k=67),
    "moe_gating": Shape.of("test", {"experts": 11, "top": 3}),
    "moe_experts": Shape.of("test", {"hidden": 37, "inter": 21, "experts": 7, "top": 3}),
    "moe_sum": Shape.of("test", {"top": 5, "hidden": 37}),
    "lora_shrink": Shape.of("test", {"hidden": 67, "rank": 8, "adapters": 3}),
    "lora_expand": Shape.of("test", {"n": 37, "rank": 8, "adapters": 3}),
}


def verified(name: str, kernel: Kernel, text: str, universe: int, *left_out: str, device: str = "cpu") -> Verification:
    """Every relation that has a meaning but some, over one operator's kernel."""
    case = Case(arm="test", operator=name, shape=SHAPES[name], precision=Precision.parse(text))
    bound = bind(case, {name: kernel})
    subject = KernelUnderTest(case, operators()[name], bound, seed=0, universe=universe, device=torch.device(device))
    wanted = [one for one in relations().values() if one.name not in ("graph", *left_out)]
    return Verifier(subject, 0).verify(wanted, Setting(universe, sweep(universe)), [])
