"""A kernel bound to its data: what relations run and timing times."""

from __future__ import annotations

import copy
import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, partial
from typing import NamedTuple

import torch

from kernels_bench.arms import Kernel, Unsupported, WrongResult
from kernels_bench.console.text import first_line
from kernels_bench.device.errors import device_lost, is_out_of_memory
from kernels_bench.device.kinds.known import kind_of
from kernels_bench.operators import Operator, ResultRows, RowTensors, Tensors
from kernels_bench.operators.base import roundoff
from kernels_bench.operators.inputs.rows import alike_but_for_one, backwards
from kernels_bench.records.cases import Case, Launch
from kernels_bench.relations import Batch, make_batch
from kernels_bench.relations.base import are_sequences
from kernels_bench.relations.layout import LAUNCHES, RARER
from kernels_bench.relations.surroundings import AROUND
from kernels_bench.verification.bitwise import all_same_bits, digest, same_bits
from kernels_bench.verification.subject.launch_forms import (
    FormRefused,
    beside,
    between_nan,
    fill_free_memory,
    in_flat_buffers,
    laid_out,
    slices_of_wider,
    undisturbed,
)
from kernels_bench.verification.subject.launched import (
    DisturbedCall,
    KernelFault,
    LaunchResult,
    MalformedResult,
    StrayWrite,
)
from kernels_bench.verification.subject.poison import poison
from kernels_bench.verification.subject.returned import ReturnedMemory
from kernels_bench.verification.subject.surroundings import compiling_nothing, set_around
from kernels_bench.verification.subject.tensors import memory_of, on, rarest, tensors_among
from profiles.instruments.range_names import BatchRange
from profiles.instruments.ranges import Ranges


def bind(case: Case, kernels: Mapping[str, Kernel]) -> Kernel:
    """The arm's kernel for a case, its result's dtype settled.

    Raises:
        Unsupported: the arm has no such kernel, or it cannot give a result of another dtype than its inputs'.
    """
    kernel = kernels.get(case.operator)
    if kernel is None:
        raise Unsupported(f"the arm has no {case.operator}")
    try:
        parameters = set(inspect.signature(kernel).parameters)
    except ValueError:  # a builtin, such as torch.mm
        parameters = set()
    if "out_dtype" in parameters:
        out_dtype = case.precision.torch_output
        return lambda *arguments: kernel(*arguments, out_dtype=out_dtype)
    if case.precision.input != case.precision.output:
        raise Unsupported(
            f"its {case.operator} cannot give {case.precision.output} of {case.precision.input}: it takes no out_dtype"
        )
    return kernel


_FEW_BESIDE = 33
"""Up to so many rows there may be a larger call at the same time."""
_FIRST, _SAMPLED = 64, 1 << 12
_MEANT = "; if it may, its operator says so (overwrites)"
_MOST_CALLS, _MOST_ALONE = 25, 12
"""So often a call is made at all, and in a row that had the processor for itself: the next one would, too."""
_LONG_S = 5e-3
"""A call of so many seconds meets others all the time."""


_ANY_WHOLE = torch.int64
"""Whole numbers of which nobody said another dtype: those of this one have the values that are right in any."""
_WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)
"""Those with which torch can do all that is done with results; of further ones without a sign it gathers no rows."""


class _WholeNumbers(NamedTuple):
    """What dtype a result of whole numbers was first given in, and for how many rows."""

    dtype: torch.dtype
    m: int


def _meetings(took_s: float, device: torch.device) -> int:
    """How many calls that met others are looked at, where one takes so many seconds."""
    if device.type != "cpu":
        return 1
    return 5 if took_s < _LONG_S else 3


def _some_of(tensor: torch.Tensor) -> torch.Tensor:
    """Elements from everywhere, by an odd step, so that they are of many columns."""
    return tensor.reshape(-1)[:: tensor.numel() // _SAMPLED | 1]


class KernelUnderTest:
    """One kernel, its universe of rows and its weights, on one device.

    Attributes:
        case: what is measured.
        operator: the case's operator.
        universe: number of ordinary rows; the hostile ones follow them.
        tables: the row tensors of the whole universe.
        weights: what all rows share.
        launches: how often the kernel was called.
        launched_last: spec of the batch that was launched last; empty before the first.
        unit: unit roundoff of the precision that its arm states; 0, as at first, where that is its inputs'.

    ``watched`` keeps a second copy of the weights, without which `run` cannot tell whether they were changed.
    """

    def __init__(
        self,
        case: Case,
        operator: Operator,
        kernel: Kernel,
        *,
        seed: int,
        universe: int,
        device: torch.device,
        watched: bool = True,
    ) -> None:
        self.unit = 0.0
        self.case, self.operator, self.kernel = case, operator.for_shape(case.shape), kernel
        self._watches = watched
        self.universe, self.device = universe, device
        self._ranges: Ranges | None = None
        dtype = case.precision.torch_input
        made_on = torch.device(kind_of(device.type).made_on)
        rows = self.operator.rows(case.shape, universe, dtype, seed, made_on)
        alike_but_for_one(rows, universe)
        self.tables = on(device, rows)
        self.weights = on(device, self.operator.shared_inputs(case.shape, universe, dtype, seed, made_on))
        self._pristine: Tensors = tuple(weight.clone() for weight in self.weights) if watched else ()
        self._pristine_rows: Tensors = tuple(table.clone() for table in self.tables) if watched else ()
        self._lent = False
        self._returned = ReturnedMemory(universe)
        self._whole: dict[int, _WholeNumbers] = {}
        self.launched_last = ""
        self.launches = 0

    def with_seed(self, seed: int) -> KernelUnderTest:
        """The same kernel over other data of the same sizes."""
        found = KernelUnderTest(
            self.case,
            self.operator,
            self.kernel,
            seed=seed,
            universe=self.universe,
            device=self.device,
            watched=self._watches,
        )
        found.unit = self.unit
        found._ranges = self._ranges
        found._whole = self._whole
        return found

    def with_kernel(self, case: Case, kernel: Kernel) -> KernelUnderTest:
        """Another kernel over the same rows and weights."""
        found = copy.copy(self)
        found.case, found.kernel, found._returned = case, kernel, ReturnedMemory(self.universe)
        found._whole, found.launched_last, found.launches = {}, "", 0
        return found

    def gather(self, company: Batch) -> RowTensors:
        """The company's inputs, in new tensors."""
        return self.operator.gather(company, self.universe, self.case.shape, self.tables, self.weights)

    def data_digest(self) -> str:
        """Of some thousand elements of each weight, and of each tensor of the rows that every universe begins with."""
        first = self.gather(make_batch(f"first:{min(_FIRST, self.universe)}", self.universe))
        return digest(tuple(_some_of(tensor).to(self.device) for tensor in (*first, *self.weights)))

    def lines(self, company: Batch) -> ResultRows:
        """What the lines of the company's result are."""
        return self.operator.lines(company, self.universe, self.case.shape)

    def result_shapes(self, m: int) -> tuple[tuple[int, ...], ...]:
        """Sizes of each tensor of a result of ``m`` lines."""
        return self.operator.result_shapes(self.case.shape, m)

    @property
    def result_dtypes(self) -> tuple[torch.dtype, ...]:
        """Dtype of each of these tensors; of whole numbers that which the kernel gave first, once it gave any."""
        return tuple(
            self._whole[place].dtype if place in self._whole else dtype
            for place, dtype in enumerate(self._expected_dtypes)
        )

    @cached_property
    def _expected_dtypes(self) -> tuple[torch.dtype, ...]:
        return self.operator.result_dtypes(self.case.shape, self.case.precision)

    @cached_property
    def line_bytes(self) -> int:
        """Bytes of one line of a result."""
        each = zip(self.result_shapes(1), self.result_dtypes, strict=True)
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in each)

    def announce_in(self, ranges: Ranges) -> None:
        """From now on, have a range around the kernels of every company."""
        self._ranges = ranges

    def announced(self, company: Batch, launch: Launch) -> AbstractContextManager[None]:
        """A range around the kernels of one company, which tells a profiler's reader what ran for it."""
        if self._ranges is None:
            return nullcontext()
        message = BatchRange(self.case.key, company.spec, launch).message
        return self._ranges.range(message, category="company", payload=company.size)

    def launch(self, inputs: RowTensors) -> RowTensors:
        """Call the kernel once and check the form of what it returns.

        Raises:
            MalformedResult: the result's number, shape, dtype or device is wrong.
            KernelFault: the kernel says itself that its result is wrong.
        """
        self.launches += 1
        try:
            result = self.operator.split_result(self.kernel(*self.operator.arguments(inputs, self.weights)))
        except WrongResult as wrong:
            raise KernelFault(str(wrong)) from None
        except Exception as error:
            m = len(inputs[0])
            error.add_note(f"with {m} row{'' if m == 1 else 's'}")
            raise
        self._check_form(result, len(inputs[0]))
        return tuple(tensor.resolve_neg() for tensor in result)  # else its bits are not its numbers'

    def _check_form(self, result: RowTensors, m: int) -> None:
        shapes = self.result_shapes(m)
        if len(result) != len(shapes):
            raise MalformedResult(f"returns {len(result)} results instead of {len(shapes)}")
        for place, (got, shape) in enumerate(zip(result, shapes, strict=True)):
            if not isinstance(got, torch.Tensor):
                raise MalformedResult(_no_tensor(got, bool(self.operator.overwrites)))
            if got.layout is not torch.strided:
                raise MalformedResult(f"returns a tensor of layout {got.layout} instead of a dense one")
            if tuple(got.shape) != shape:
                raise MalformedResult(f"returns shape {tuple(got.shape)} instead of {shape} for {m} rows")
            self._check_dtype(place, got.dtype, m)
            if got.device.type != self.device.type:
                raise MalformedResult(f"returns a tensor on {got.device} instead of {self.device}")

    def _check_dtype(self, place: int, got: torch.dtype, m: int) -> None:
        """Whole numbers may be of any width, since ids of an engine's kernels have 32 bits, but of one in all batches.

        Others are required to the letter, and so are whole numbers that a definition wants of another dtype than int64.
        """
        expected = self._expected_dtypes[place]
        if expected is not _ANY_WHOLE or got not in _WHOLE:
            if got is not expected:
                raise MalformedResult(f"returns {got} instead of {expected}")
            return
        first = self._whole.setdefault(place, _WholeNumbers(got, m))
        if got is not first.dtype:
            raise MalformedResult(f"returns {got} at M={m}, and {first.dtype} at M={first.m}")

    def run(self, company: Batch) -> RowTensors:
        """The outputs for a company, as copies; waits for the device.

        Raises:
            KernelFault: the result has a wrong form, or the kernel wrote into its inputs.
        """
        launched = self.start(company)
        self.check_inputs([launched])
        return launched.outputs

    def start(self, company: Batch, form: Launch = "eager") -> LaunchResult:
        """Launch one company and wait for nothing.

        The memory that the outputs will land in is poisoned before, and the outputs that the kernel returned are
        poisoned after they were copied: a kernel that leaves elements out, or returns what it once computed,
        returns poison.

        Args:
            company: what to launch.
            form: ``eager``, ``view``, ``offset``, ``columns``, ``transposed``, ``expanded``, ``padded``,
                ``concurrent``, ``kept``, ``inference``, ``gradients`` or ``default_dtype``.

        Raises:
            MalformedResult: the result has a wrong form.
            FormRefused: the kernel does not take rows in this form, or this around it.
        """
        if form == "expanded" and self.operator.overwrites:
            raise FormRefused("writes into its rows, which would all be one")
        with self._weights_elsewhere(self._weights_in(form, company.size)):
            return self._start(company, form)

    def _weights_in(self, form: Launch, m: int) -> Callable[[Tensors], Tensors]:
        """Where the weights lie in a form, on a CPU: at some M alone, if many an honest kernel refuses them there."""
        elsewhere: dict[Launch, Callable[[Tensors], Tensors]] = {
            "padded": between_nan,
            "view": self.operator.weights_in_one,
            "transposed": self.operator.weights_transposed,
        }
        if not are_sequences(self.operator.rows_are):
            elsewhere |= {"columns": slices_of_wider} if m % 2 == 0 else {"offset": in_flat_buffers}
        return elsewhere.get(form, tuple) if self.device.type == "cpu" else tuple

    @contextmanager
    def _weights_elsewhere(self, moved: Callable[[Tensors], Tensors]) -> Iterator[None]:
        usual, self.weights = self.weights, moved(self.weights)
        try:
            yield
        finally:
            self.weights = usual

    def _start(self, company: Batch, form: Launch) -> LaunchResult:
        """`start`, with the weights where they are now."""
        inputs = laid_out(self.gather(company), form)
        after, self.launched_last = self.launched_last, company.spec
        if form == "padded":
            fill_free_memory(self.device)
        self._poison_free_memory(len(self.lines(company).ids))
        with self.announced(company, form):
            returned = self._launched(inputs, company, form)
        now = self.operator.arguments(inputs, self.weights)
        then = self.operator.arguments(self.gather(company), self.weights)
        watched = zip(tensors_among(now), tensors_among(then), self._watched(now, inputs), strict=True)
        intact = [(place, same_bits(tensor, before)) for (place, tensor), (_, before), watch in watched if watch]
        outputs = tuple(output.clone() for output in returned)
        self._poison_returned(returned, company)
        return LaunchResult(company, outputs, intact, after, form, undisturbed(inputs, form))

    def expected(self, inputs: RowTensors, weights: Tensors) -> tuple[RowTensors, RowTensors]:
        """What float64 gives for some lines, and how far from it this kernel may be; see `Operator.reference`."""
        out = self.case.precision.torch_output
        exact, allowed = self.operator.reference_and_tolerance(inputs, weights, out)
        # A kernel of less precision is off by as many of its own roundings as others are by theirs.
        coarser = max(1.0, self.unit / roundoff(out))
        return exact, tuple(bound * coarser for bound in allowed)

    def _launched(self, inputs: RowTensors, company: Batch, form: Launch) -> RowTensors:
        """The results of one call in a form, and of what that form does beside it."""
        if form == "concurrent":
            return self._launched_beside_others(inputs, company)
        if form in AROUND:
            return self._launched_within(inputs, form)
        try:
            found = self.launch(inputs)
            if form == "kept":
                self.launch(self._with_other_values(company))
            return found
        except Exception as error:
            if form not in (*LAUNCHES, *RARER) or is_out_of_memory(error) or device_lost(self.device):
                raise
            raise FormRefused(f"does not take such rows: {first_line(error)}") from error

    def _launched_within(self, inputs: RowTensors, form: Launch) -> RowTensors:
        """The results of a call around which something is set, as copies that are made outside of it."""
        try:
            with compiling_nothing(), set_around(form):
                found = self.launch(inputs)
        except KernelFault as fault:
            raise DisturbedCall(f"{fault} ({form}, at M={len(inputs[0])})") from fault
        except Exception as error:
            if is_out_of_memory(error) or device_lost(self.device):
                raise
            raise FormRefused(f"does not take it ({form}): {first_line(error)}") from error
        return tuple(result.detach().clone() for result in found)

    def _launched_beside_others(self, inputs: RowTensors, company: Batch) -> RowTensors:
        """The results of a call that met others; of several such calls the rarest."""
        others = [partial(self.launch, other) for other in self._beside(company, inputs)]
        at_once = 2 if self._is_few_and_odd(company) else 1
        try:
            with beside(others, self.device, at_once) as counted:
                # A second call would be given what the first one wrote, where a kernel writes into its rows.
                seen: list[RowTensors] = []
                took_s, alone = 0.0, 0
                for _ in range(1 if self.operator.overwrites else _MOST_CALLS):
                    # Two that take turns, step by step, would go on to meet as they first met.
                    time.sleep(took_s * len(seen) / _meetings(took_s, self.device))
                    met = counted() + 2  # one that ends, and the next that begins
                    began = time.perf_counter()
                    found = self.launch(inputs)
                    took_s = time.perf_counter() - began
                    alone += 1
                    if counted() >= met:
                        seen.append(found)
                        alone = 0
                    if len(seen) >= _meetings(took_s, self.device) or alone == _MOST_ALONE:
                        break
                return rarest(seen) if seen else found
        except Exception as error:
            if isinstance(error, FormRefused) or is_out_of_memory(error) or device_lost(self.device):
                raise
            self.launch(inputs)  # of a kernel that fails alone, too, that is the error
            what = str(error) if isinstance(error, KernelFault) else f"{type(error).__name__}: {first_line(error)}"
            raise DisturbedCall(f"fails beside another call at M={company.size}, and not alone: {what}") from error

    def _with_other_values(self, company: Batch) -> RowTensors:
        """Inputs of another call of as many rows; what counts or places their tokens stays as it is."""
        found = self.gather(company)
        rows_alone = all(len(tensor) == company.size for tensor in found)
        return tuple(backwards(one) if rows_alone or one.is_floating_point() else one for one in found)

    def _beside(self, company: Batch, inputs: RowTensors) -> tuple[RowTensors, ...]:
        """Inputs of calls at the same time: as many other rows, and half; at small odd M twice, and the same rows."""
        larger = self._is_few_and_odd(company)
        m = min(2 * company.size, self.universe) if larger else company.size // 2
        others = self._with_other_values(company), self.gather(make_batch(f"first:{m}", self.universe))
        return (*others, inputs) if larger and not self.operator.overwrites else others

    @staticmethod
    def _is_few_and_odd(company: Batch) -> bool:
        """Whether larger calls are made beside it too, and on a CPU two at once."""
        return bool(company.size % 2) and company.size <= _FEW_BESIDE

    def start_into(self, company: Batch, outputs: RowTensors, at: int) -> None:
        """Launch one company, put its outputs where ``outputs`` have their lines from ``at`` on, and wait for nothing.

        This is `start` where thousands of companies are to be seen: rows that follow each other are not copied but
        lent, and looked after by the next `check_inputs`.

        Raises:
            MalformedResult: the result has a wrong form.
        """
        self.launched_last = company.spec
        lent = self.operator.view(company, self.tables)
        inputs = self.gather(company) if lent is None else lent
        self._lent |= lent is not None
        with self.announced(company, "eager"):
            returned = self.launch(inputs)
        for kept, output in zip(outputs, returned, strict=True):
            kept[at : at + len(output)].copy_(output)
        self._poison_returned(returned, company)

    def _poison_returned(self, returned: RowTensors, company: Batch) -> None:
        lent = memory_of((*self.tables, *self.weights))
        self._returned.poison(returned, company.size, lent, again=lambda: self.launch(self.gather(company)))

    def _watched(self, arguments: tuple[object, ...], inputs: RowTensors) -> list[bool]:
        """Which of the arguments' tensors hold rows and must not be written."""
        rows = {tensor.data_ptr() for tensor in inputs}
        return [
            tensor.device.type == self.device.type
            and tensor.data_ptr() in rows
            and place not in self.operator.overwrites
            for place, tensor in tensors_among(arguments)
        ]

    def _poison_free_memory(self, m: int) -> None:
        """Leave poison in freed blocks of the results' sizes, which is where allocators put the results."""
        each = zip(self.result_shapes(m), self.result_dtypes, strict=True)
        for block in [torch.empty(shape, dtype=dtype, device=self.device) for shape, dtype in each]:
            poison(block)

    def check_inputs(self, launches: Sequence[LaunchResult], asked: Sequence[torch.Tensor] = ()) -> list[int]:
        """Wait for some launches, and see whether they left rows and weights alone.

        Args:
            launches: they.
            asked: booleans and whole numbers on the device, each tensor of shape (n,), that are waited for together:
                on a GPU each wait is for all other processes' turns.

        Returns:
            All that was asked, in order.

        Raises:
            KernelFault: they did not.
        """
        flags = [flag for launched in launches for _, flag in launched.intact]
        flags += [flag for launched in launches for flag in launched.undisturbed]
        flags += [same_bits(a, b) for a, b in zip(self.weights, self._pristine, strict=True)]
        lent, self._lent = self._lent, False
        if lent:
            flags += [same_bits(a, b) for a, b in zip(self.tables, self._pristine_rows, strict=True)]
        alone = [torch.stack(flags).all().reshape(1)] if flags else []
        told: list[int] = torch.cat([one.long() for one in (*alone, *asked)]).tolist() if alone or asked else []
        if not flags or told[0]:
            return told[len(alone) :]
        if lent and not all_same_bits(self.tables, self._pristine_rows):
            raise KernelFault(f"writes into its rows, which follow each other in memory{_MEANT}")
        for launched in launches:
            for place, intact in launched.intact:
                if not bool(intact):
                    raise KernelFault(
                        f"writes into its rows: argument {place} changed in {launched.company.spec}{_MEANT}"
                    )
            if not all(map(bool, launched.undisturbed)):
                fault = KernelFault if launched.form == "padded" else StrayWrite
                raise fault(f"writes into memory beside its rows, in batch {launched.company.spec} ({launched.form})")
        between = " … ".join(dict.fromkeys(launched.company.spec for launched in (*launches[:1], *launches[-1:])))
        raise KernelFault(f"writes into its weights{between and f', in batch {between}'}")


def _no_tensor(got: object, in_place: bool) -> str:
    more = ": what is computed in place is to be returned" if got is None and in_place else ""
    return f"returns {type(got).__name__} instead of a tensor{more}"
