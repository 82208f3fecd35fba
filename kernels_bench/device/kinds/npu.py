"""Huawei's Ascend NPUs, through torch_npu: the only file that imports it for its device.

Written to torch_npu 2.14's sources; not run, for want of an NPU.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from kernels_bench.device.kinds.base import Accelerator
from kernels_bench.device.lazy_torch import torch
from kernels_bench.records.cases import Device


class Npu(Accelerator):
    """``torch.npu``, which torch_npu adds to torch when it is imported.

    Its matrix units have no float64 and its vector units little of it and of 64-bit integers: rows, weights and
    references are made on the host.
    """

    type = "npu"
    made_on = "cpu"

    @property
    def api(self) -> Any:
        """``torch.npu``."""
        importlib.import_module("torch_npu")
        return getattr(torch, self.type)

    def available(self) -> bool:
        """Whether torch_npu is installed and finds an NPU."""
        return importlib.util.find_spec("torch_npu") is not None and bool(self.api.is_available())

    def describe(self) -> Device:
        """With its number in the place of a UUID, by which `profiles.instruments.npu_smi` finds it."""
        return super().describe().model_copy(update={"uuid": "NPU-0"})

    def new_graph(self) -> Any:
        """An ACL graph."""
        return self.api.NPUGraph()

    def forget_capture(self, pool: Any) -> None:
        """Nothing: it is not known that torch_npu needs it."""


KIND = Npu()
