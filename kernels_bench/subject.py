"""A kernel bound to its data: what relations run and timing times."""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch

from kernels_bench.arms import Kernel, Unsupported
from kernels_bench.cases import Case
from kernels_bench.comparison import poison, same_bits
from kernels_bench.operators import Operator, RowTensors, Tensors
from kernels_bench.relations import Company


T = TypeVar("T")


class KernelFault(Exception):  # noqa: N818 - a finding about the kernel, not an error of ours
    """What a kernel did that no correct kernel does; the message says what."""


def bind(case: Case, kernels: Mapping[str, Kernel]) -> Kernel:
    """The arm's kernel for a case, its result's dtype settled.

    Raises:
        Unsupported: the arm has no such kernel, or it cannot give a result of another dtype than its inputs'.
    """
    kernel = kernels.get(case.operator)
    if kernel is None:
        raise Unsupported(f"the arm has no {case.operator}")
    if "out_dtype" in inspect.signature(kernel).parameters:
        out_dtype = case.precision.torch_output
        return lambda *arguments: kernel(*arguments, out_dtype=out_dtype)
    if case.precision.input != case.precision.output:
        raise Unsupported(f"its {case.operator} cannot give {case.precision.output} of {case.precision.input}")
    return kernel


class MalformedResult(KernelFault):
    """A result whose number, shape, dtype or device is wrong, so that there is nothing to compare."""


class Subject:
    """One kernel, its universe of rows and its weights, on one device.

    Attributes:
        case: what is measured.
        operator: the case's operator.
        universe: number of ordinary rows; the hostile ones follow them.
        tables: the row tensors of the whole universe.
        weights: what all rows share.

    ``watched`` keeps a second copy of the weights, without which `run` cannot tell whether they were changed.
    """

    def __init__(
        self, case: Case, operator: Operator, kernel: Kernel, *, seed: int, universe: int, device: torch.device, watched: bool = True
    ) -> None:
        self.case, self.operator, self.kernel = case, operator, kernel
        self.universe, self.device = universe, device
        dtype = case.precision.torch_input
        self.tables = operator.rows(case.shape, universe, dtype, seed, device)
        self.weights = operator.weights(case.shape, dtype, seed, device)
        self._pristine: Tensors = tuple(weight.clone() for weight in self.weights) if watched else ()

    def gather(self, company: Company) -> RowTensors:
        """The company's rows, in new tensors."""
        rows = torch.from_numpy(company.rows).to(self.device)
        return tuple(table.index_select(0, rows) for table in self.tables)

    def launch(self, inputs: RowTensors) -> RowTensors:
        """Call the kernel once and check the form of what it returns.

        Raises:
            MalformedResult: the result's number, shape, dtype or device is wrong.
        """
        result = self.operator.by_row(self.kernel(*self.operator.arguments(inputs, self.weights)))
        self._check_form(result, len(inputs[0]))
        return result

    def _check_form(self, result: RowTensors, m: int) -> None:
        shapes = self.operator.result_shapes(self.case.shape, m)
        if len(result) != len(shapes):
            raise MalformedResult(f"returns {len(result)} results instead of {len(shapes)}")
        expected = self.case.precision.torch_output
        for got, shape in zip(result, shapes, strict=True):
            if not isinstance(got, torch.Tensor):
                raise MalformedResult(f"returns {type(got).__name__} instead of a tensor")
            if tuple(got.shape) != shape:
                raise MalformedResult(f"returns shape {tuple(got.shape)} instead of {shape} for {m} rows")
            if got.dtype is not expected:
                raise MalformedResult(f"returns {got.dtype} instead of {expected}")
            if got.device.type != self.device.type:
                raise MalformedResult(f"returns a tensor on {got.device} instead of {self.device}")

    def run(self, company: Company) -> RowTensors:
        """The outputs for a company, after poisoning the memory they will land in; inputs are checked afterwards.

        Raises:
            KernelFault: the result has a wrong form, or the kernel wrote into its inputs.
        """
        inputs = self.gather(company)
        self._poison_free_memory(company.size)
        outputs = self.launch(inputs)
        self._check_inputs(company, inputs)
        return outputs

    def _poison_free_memory(self, m: int) -> None:
        """Leave poison in freed blocks of the results' sizes, which is where allocators put the results."""
        dtype = self.case.precision.torch_output
        shapes = self.operator.result_shapes(self.case.shape, m)
        for block in [torch.empty(shape, dtype=dtype, device=self.device) for shape in shapes]:
            poison(block)

    def _check_inputs(self, company: Company, inputs: RowTensors) -> None:
        now = self.operator.arguments(inputs, self.weights)
        then = self.operator.arguments(self.gather(company), self._pristine)
        watched = {
            place: same_bits(a, b)
            for place, (a, b) in enumerate(zip(now, then, strict=True))
            if isinstance(a, torch.Tensor) and place not in self.operator.overwrites
        }
        if watched and not bool(torch.stack(list(watched.values())).all()):
            changed = ", ".join(str(place) for place, intact in watched.items() if not bool(intact))
            raise KernelFault(f"writes into its inputs: argument {changed} changed in company {company.spec}")

    def capture(self, company: Company) -> Replay:
        """Capture one launch in a CUDA graph.

        Raises:
            RuntimeError: torch's, where the kernel does something that a graph cannot hold.
        """
        inputs = self.gather(company)
        graph, outputs = capture_graph(lambda: self.launch(inputs))
        return Replay(self, graph, inputs, outputs)


class Replay:
    """A captured launch, whose inputs are exchanged before each replay."""

    def __init__(self, subject: Subject, graph: torch.cuda.CUDAGraph, inputs: RowTensors, outputs: RowTensors) -> None:
        self._subject, self._graph, self._inputs, self._outputs = subject, graph, inputs, outputs

    def run(self, company: Company) -> RowTensors:
        """The outputs for a company of the size that was captured."""
        # Poison first: a kernel that works in place returns its inputs.
        for output in self._outputs:
            poison(output)
        for held, rows in zip(self._inputs, self._subject.gather(company), strict=True):
            held.copy_(rows)
        self._graph.replay()
        return self._outputs


def capture_graph(body: Callable[[], T]) -> tuple[torch.cuda.CUDAGraph, T]:
    """Run ``body`` once to load and compile what it needs, then capture it.

    Raises:
        RuntimeError: torch's, where ``body`` does something that a graph cannot hold.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        body()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = body()
    return graph, result


_M_PERTURB = -6  # glibc's malloc.h


@contextmanager
def poisoned_allocations(device: torch.device) -> Iterator[None]:
    """On a CPU, have malloc hand out memory that is filled with 0x7f, which is huge or NaN in every dtype.

    On CUDA `Subject.run` leaves poison in the caching allocator's free blocks instead.  Without glibc this does
    nothing, and an unwritten result is still found by the comparison with the reference.
    """
    libc = ctypes.CDLL(None) if device.type == "cpu" else None
    if libc is None or not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(_M_PERTURB, 0x80)
    try:
        yield
    finally:
        libc.mallopt(_M_PERTURB, 0)
