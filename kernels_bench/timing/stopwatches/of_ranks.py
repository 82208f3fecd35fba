"""What ranks time themselves with: each its own part of a collective, all of them in step.

A rank that took more samples than another, or captured another graph, would wait for it for ever. So nothing here
follows a clock, and how many calls make a sample follows from what the host says of their time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from kernels_bench.ranks.messages import Measured, Sampling
from kernels_bench.timing.meter import Call
from kernels_bench.timing.stopwatches.host_clock import HostStopwatch


class RankStopwatch:
    """A rank's stopwatch: its device's.

    Before a cold call the ranks meet: filling a cache takes one a little longer than another, and what is timed would
    begin with waiting for it.

    Args:
        device: the rank's, which is the current one.
    """

    def __init__(self, device: torch.device) -> None:
        self._token = torch.zeros(1, device=device)
        if device.type == "cuda":
            from kernels_bench.timing.stopwatches.cuda_events import CudaStopwatch

            self._own: CudaStopwatch | HostStopwatch = CudaStopwatch(range, self._meet)
        else:
            self._own = HostStopwatch(range, self._meet)

    def _meet(self) -> None:
        torch.distributed.all_reduce(self._token)

    def measured(
        self, call: Call, asked: Sampling, capturing: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> Measured:
        """Samples of a collective's call, as many as every other rank takes.

        Args:
            call: what is timed.
            asked: how.
            capturing: the context for capturing its graphs, see `kernels_bench.ranks.member.capturing`.
        """
        if asked.what == "estimate":
            return Measured(((self._own.estimate_us(call), None),), 1, "", 0.0)
        if asked.what == "rough":
            return Measured(((self._own.rough_us(call), None),), 1, "", 0.0)
        with capturing():
            meter = (self._own.warm if asked.what == "warm" else self._own.cold)(call, asked.estimate_us)
        self._meet()
        return Measured(tuple(meter.take(asked.rest)), meter.calls, meter.method, meter.overhead_us)
