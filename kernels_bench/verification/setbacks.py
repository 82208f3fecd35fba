"""What an error that comes in a batch makes of the relation that chose it, and of the case."""

from __future__ import annotations

import sys

from kernels_bench.arms import Unsupported
from kernels_bench.console.text import first_line, kind_and_reason
from kernels_bench.device.cuda_graph import NotCapturable
from kernels_bench.device.errors import device_lost, is_out_of_memory
from kernels_bench.verification.relation_results import Found
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.subject.launch_forms import FormRefused
from kernels_bench.verification.subject.launched import DisturbedCall, IgnoresWeights, KernelFault, StrayWrite


class Setbacks:
    """Errors in one case's batches.

    Args:
        subject: the kernel and its data.

    Attributes:
        all_else_is_known: nothing but the relation at hand is lost with the device.
        lost: the device did not survive the last relation, so that nothing more can be done in this process.
        weightless: that the result is the same whatever the weights; empty where it is not, as far as is known.
    """

    def __init__(self, subject: KernelUnderTest) -> None:
        self.all_else_is_known = self.lost = False
        self.weightless = ""
        self._subject = subject
        self._shown: set[str] = set()

    def outcome(self, error: Exception) -> tuple[Found, str]:
        """The status of the relation, and the reason that is told of it.

        Raises:
            Exception: the error itself, where it concerns the whole case.
        """
        if isinstance(error, (NotCapturable, FormRefused)):
            return "unsupported", first_line(error)
        if isinstance(error, (StrayWrite, DisturbedCall)):
            return "broken", str(error)
        if isinstance(error, IgnoresWeights):  # of a kernel that is wrong altogether the rest is to be seen, too
            self.weightless = str(error)
            return "failed", str(error)
        # Of a kernel that took the universe: one for decode steps alone, say, or for so many rows at most.
        if isinstance(error, (Unsupported, NotImplementedError)):
            return "unsupported", f"does not take all of its batches: {first_line(error)}"
        if isinstance(error, KernelFault) or is_out_of_memory(error):
            raise error
        if device_lost(self._subject.device):
            if not self.all_else_is_known:
                raise error
            self.lost = True
        self._show(error)
        if self.lost:  # whose launch it came of is known only about
            return "failed", f"{type(error).__name__} in batch {self._subject.launched_last}: {first_line(error)}"
        return "failed", kind_and_reason(error)

    def _show(self, error: Exception) -> None:
        """The traceback of an error, once for all the relations that it comes in."""
        reason = kind_and_reason(error)
        if reason not in self._shown:
            self._shown.add(reason)
            sys.excepthook(type(error), error, error.__traceback__)
