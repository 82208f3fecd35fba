"""What comes of a launch: its outputs, and what it shows of a kernel by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kernels_bench.operators import RowTensors
from kernels_bench.records.cases import Launch
from kernels_bench.relations import Batch


class KernelFault(Exception):  # noqa: N818 - a finding about the kernel, not an error of ours
    """What a kernel did that no correct kernel does; the message says what."""


class IgnoresWeights(KernelFault):
    """The same result whatever the weights, as of a kernel that keeps those of an earlier call."""


class StrayWrite(KernelFault):
    """Something written beside rows that are a view, or at an odd address: the kernel is not made for these."""


class DisturbedCall(KernelFault):
    """An error or a malformed result of a call beside which another one ran, or around which something was set."""


class MalformedResult(KernelFault):
    """A result whose number, shape, dtype or device is wrong, so that there is nothing to compare."""


@dataclass(frozen=True, eq=False)
class LaunchResult:
    """One company's launch.

    Attributes:
        company: what was launched.
        outputs: copies of what the kernel returned.
        intact: for each tensor of rows, the place of its argument and whether it is unchanged: booleans on the device.
        after: spec of what was launched right before; empty where nothing was.
        form: how it was launched.
        undisturbed: whether what lies beside its rows is unchanged, where that is known, likewise.
    """

    company: Batch
    outputs: RowTensors
    intact: list[tuple[int, torch.Tensor]]
    after: str = ""
    form: Launch = "eager"
    undisturbed: Sequence[torch.Tensor] = ()
