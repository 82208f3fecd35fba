"""A launch captured in a graph, and replayed with the rows of other batches."""

from __future__ import annotations

from typing import Any

from kernels_bench.device.cuda_graph import capture_graph
from kernels_bench.operators import RowTensors
from kernels_bench.relations import Batch
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.subject.launched import LaunchResult
from kernels_bench.verification.subject.poison import poison


class CapturedLaunch:
    """A captured launch, whose inputs are exchanged before each replay."""

    def __init__(self, subject: KernelUnderTest, graph: Any, inputs: RowTensors, outputs: RowTensors) -> None:
        self._subject, self._graph, self._inputs, self._outputs = subject, graph, inputs, outputs

    def start(self, company: Batch) -> LaunchResult:
        """Replay for a company of the size that was captured, and wait for nothing."""
        # Poison first: a kernel that works in place returns its inputs.
        for output in self._outputs:
            poison(output)
        for held, rows in zip(self._inputs, self._subject.gather(company), strict=True):
            held.copy_(rows)
        with self._subject.announced(company, "graph"):
            self._graph.replay()
        self._subject.launches += 1
        return LaunchResult(company, tuple(output.clone() for output in self._outputs), [])


def capture(subject: KernelUnderTest, company: Batch) -> CapturedLaunch:
    """Capture one launch in a graph.

    A kernel whose launches other processes make captures them itself, by a method ``captured``.

    Raises:
        NotCapturable: the kernel does something that a graph cannot hold.
    """
    inputs = subject.gather(company)
    captured = getattr(subject.kernel, "captured", None)
    if captured is None:
        graph, outputs = capture_graph(lambda: subject.launch(inputs))
    else:
        graph = captured(*subject.operator.arguments(inputs, subject.weights))
        outputs = subject.operator.split_result(graph.result)
    return CapturedLaunch(subject, graph, inputs, outputs)
