"""The contract between an operator and everything that knows no operator by name."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, lru_cache
from types import ModuleType
from typing import Any, ClassVar, TypeAlias

from kernels_bench.console.mistakes import PluginError
from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.device.lazy_torch import torch
from kernels_bench.discovery import offering
from kernels_bench.operators.inputs.rows import OFFSETS, further_rows, row_table, turned_within
from kernels_bench.records.cases import ITEM_SIZE, Logits, Precision, Shape
from kernels_bench.relations.base import RowKind
from kernels_bench.relations.batch import Batch, ResultRows

Tensors: TypeAlias = "tuple[torch.Tensor, ...]"
RowTensors: TypeAlias = "tuple[torch.Tensor, ...]"
"""Tensors whose dimension 0 counts rows."""

_TIMES_HELD = 6
"""What a verification takes of the device's memory, as a multiple of its universe's inputs and results, about.

On an H100 processes had 4 to 5 times as much with rows of 151936 elements.
"""

_BEYOND = 3  # rows that lie wholly beyond such a number of elements
_ALIGNMENT = 256  # bytes on which allocators begin a tensor on a GPU, and more than kernels ask for


@cache
def roundoff(dtype: torch.dtype) -> float:
    """Unit roundoff of a dtype, the largest relative error of one rounding: 2^-p with p bits of significand."""
    return {
        torch.bfloat16: 2.0**-8,
        torch.float16: 2.0**-11,
        torch.float32: 2.0**-24,
        torch.float8_e4m3fn: 2.0**-4,
        torch.float8_e5m2: 2.0**-3,
    }[dtype]


def largest(rows: torch.Tensor) -> torch.Tensor:
    """Each row's largest finite size, float64 (rows)."""
    return rows.double().abs().nan_to_num(nan=0.0, posinf=0.0).reshape(len(rows), -1).amax(1)


@cache
def smallest(dtype: torch.dtype) -> float:
    """The smallest number above 0 of a dtype."""
    return {
        torch.bfloat16: 2.0**-133,
        torch.float16: 2.0**-24,
        torch.float32: 2.0**-149,
        torch.float8_e4m3fn: 2.0**-9,
        torch.float8_e5m2: 2.0**-16,
    }[dtype]


@lru_cache(1 << 15)
def _a_line_a_row(company: Batch) -> ResultRows:
    return ResultRows(company.rows, company.compared)


class Operator(ABC):
    """A function of a batch of independent rows and of weights that all rows share.

    Attributes:
        name: as users type it.
        summary: the mathematics, on one line.
        dims: which of `Shape`'s sizes it has, in the order of its shape's token.
        shapes: the shapes known by name.
        usual: names of the shapes measured by default on a GPU (a model's name stands for all of its shapes).
        quick: names of the shapes of a short run there; none where it leaves the operator out.
        precisions: dtypes measured by default, the first of them at every shape.
        overwrites: positions of arguments that a kernel may write into (an operator defined as in place).
        rows_are: what its rows are, which decides on the relations that have a meaning.
        universe: rows compared by default on a GPU and on a CPU.
        timed: rows of the batches that are timed by default, on a GPU and on a CPU; none where speed is not measured.
        lengths: tokens of the sequences in those batches, likewise; none where rows are no sequences.
        timed_shapes: names of the shapes that are timed by default, where rows are sequences; elsewhere all are.
        family: operators that are asked for together; the name of their file unless it says otherwise.
        by_request: types of devices on which it is measured only when it, or its family, is asked for.
        own: whether a user defined it.
        length: tokens of every sequence of its universes, where `for_length` made it so.
        asked: KV lengths of its universes' first sequences, where `with_lengths` made it so.
        sums_are_exact: whether `added` gives sums as they were rounded once, and not quotients of them.
        sums_are_rows: whether every row is a sum, so that a launch of M rows has M.
        unread: why the order of its sums cannot be read, where there is more to say than that no terms can be chosen.
        signed: whether its sums can have terms of either sign; if not, `added` tells whether they exceed 1.
        readable: dtypes of a result from which that can be read.
        has_reference: whether `reference` can be asked; if not, nobody judges whether results are right.
        bound_is_guessed: whether how far from it a result may be is samebits' own guess, which a user can state.
        depends_on_batch: why a row's result depends on its batch by definition, such as "the scale is the maximum over
            the batch"; empty where it must not. Batches of the same rows must agree, others may differ.
        weights_tell: whether results with other weights are other results, whatever the rows.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    dims: ClassVar[tuple[str, ...]]
    shapes: ClassVar[tuple[Shape, ...]]
    usual: ClassVar[tuple[str, ...]] = ("qwen3-8b", "unaligned")
    quick: ClassVar[tuple[str, ...]] = ("qwen3-8b",)
    precisions: ClassVar[tuple[str, ...]] = ("bf16", "fp16", "fp32")
    overwrites: ClassVar[tuple[int, ...]] = ()
    rows_are: ClassVar[RowKind] = "rows"
    universe: ClassVar[Mapping[str, int]] = {"cuda": 4096, "cpu": 256}
    timed: ClassVar[Mapping[str, tuple[int, ...]]] = {"cuda": (1, 16, 256, 2048), "cpu": (1, 16, 256)}
    lengths: ClassVar[Mapping[str, tuple[int, ...]]] = {"cuda": (), "cpu": ()}
    timed_shapes: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = ""
    by_request: ClassVar[tuple[str, ...]] = ()
    own: ClassVar[bool] = False
    length: int | None = None
    asked: tuple[int, ...] = ()
    sums_are_exact: ClassVar[bool] = True
    sums_are_rows: ClassVar[bool] = False
    unread: ClassVar[str] = ""
    signed: ClassVar[bool] = True
    readable: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "fp16")
    has_reference: ClassVar[bool] = True
    bound_is_guessed: ClassVar[bool] = False
    depends_on_batch: ClassVar[str] = ""
    weights_tell: ClassVar[bool] = True

    def for_shape(self, shape: Shape) -> Operator:
        """The operator at one shape, where what it does with rows depends on more of it than they show."""
        return self

    def for_length(self, length: int | None) -> Operator:
        """The operator as it is timed: where rows are sequences, with universes of sequences of one length."""
        return self

    def with_lengths(self, lengths: tuple[int, ...]) -> Operator:
        """The operator with KV lengths that the user named, which its universes' first sequences have.

        A prefill costs the square of its length: longer ones than the shape's longest are left out.
        """
        return self

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """The universe of ``count`` rows followed by `rows.further_rows`."""
        ordinary = row_table(seed, "rows", count, shape.k, dtype, device)
        return (torch.cat([ordinary, further_rows(shape.k, dtype, device)]),)

    @abstractmethod
    def weights(self, shape: Shape, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """What all rows share."""

    def shared_inputs(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """What all rows of a universe of ``count`` share: the weights."""
        return self.weights(shape, dtype, seed, device)

    def weights_in_one(self, weights: Tensors) -> Tensors:
        """The same where some of them are views of one tensor, if engines have them so."""
        return weights

    def weights_transposed(self, weights: Tensors) -> Tensors:
        """The same where some of their dimensions lie in another order in memory, if engines have them so."""
        return weights

    def other_weights(self, weights: Tensors) -> Tensors:
        """Weights of the same shapes with which a result is another."""
        return tuple(map(turned_within, weights))

    def lines(self, company: Batch, count: int, shape: Shape) -> ResultRows:
        """The lines of a company's result, in a universe of ``count`` rows; the same object every time."""
        return _a_line_a_row(company)

    def locate_row(self, line: int) -> tuple[int, int | None]:
        """The row that a line belongs to and, where rows are sequences, its token's place in the sequence."""
        return line, None

    def gather(self, company: Batch, count: int, shape: Shape, tables: RowTensors, weights: Tensors) -> RowTensors:
        """The company's inputs, in new tensors; dimension 0 of the first counts lines."""
        rows = row_ids(company, tables[0].device)
        return tuple(table.index_select(0, rows) for table in tables)

    def view(self, company: Batch, tables: RowTensors) -> RowTensors | None:
        """The company's inputs as `gather` gives them, but where they lie in the universe, without a copy.

        None where rows do not follow one another there, where they would begin at another alignment than new tensors
        do or lie otherwise than these, or where a kernel may write into them.
        """
        first = company.follows_from
        if first is None or self.overwrites or first + company.size > len(tables[0]):
            return None
        if not all(t.is_contiguous() and first * t[0].nbytes % _ALIGNMENT == 0 for t in tables):
            return None
        return tuple(table[first : first + company.size] for table in tables)

    def inputs_of(self, lines: torch.Tensor, tables: RowTensors) -> RowTensors:
        """What `reference` needs for some lines, given by their identities."""
        return tuple(table.index_select(0, lines) for table in tables)

    @abstractmethod
    def arguments(self, rows: RowTensors, weights: Tensors) -> tuple[Any, ...]:
        """A kernel's positional arguments."""

    def split_result(self, result: Any) -> RowTensors:
        """A kernel's result as tensors whose dimension 0 counts rows: several are a sequence, mapping or dataclass."""
        if isinstance(result, Mapping):
            return tuple(result.values())
        if is_dataclass(result) and not isinstance(result, type):
            return tuple(getattr(result, field.name) for field in fields(result))
        return tuple(result) if isinstance(result, Sequence) else (result,)

    @abstractmethod
    def result_shapes(self, shape: Shape, m: int) -> tuple[tuple[int, ...], ...]:
        """Sizes of each tensor of `by_row` for ``m`` lines."""

    def result_dtypes(self, shape: Shape, precision: Precision) -> tuple[torch.dtype, ...]:
        """Dtype of each of these tensors."""
        return (precision.torch_output,) * len(self.result_shapes(shape, 1))

    @abstractmethod
    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """The exact result, computed in float64 from inputs of any dtype, on their device."""

    @abstractmethod
    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """How far from `reference` an honest kernel may be, element by element, in float64."""

    def reference_and_tolerance(
        self, rows: RowTensors, weights: Tensors, out: torch.dtype
    ) -> tuple[RowTensors, RowTensors]:
        """`reference` and `allowance` of a result of dtype ``out``, where both at once cost less."""
        exact = self.reference(rows, weights)
        return exact, self.tolerance(rows, weights, exact, out)

    def for_probing(self, length: int | None, logits: Logits) -> Operator:
        """The operator as its order is read: where rows are sequences, of one length and with logits of one kind."""
        return self

    def probe_terms(self, shape: Shape) -> int:
        """How many terms each of `sums_of` has."""
        return shape.k

    def probe_sum_count(self, shape: Shape, m: int) -> int:
        """How many sums, each of terms of its own, a launch of ``m`` rows can be made to compute.

        Not any, where the order of an addition cannot be read off the result.
        """
        return m if self.sums_are_rows else 0

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """Rows and weights of which a launch of ``m`` rows adds ``terms``, (sums, K)."""
        raise NotImplementedError(f"{self.name} adds nothing that can be chosen")

    def probe_arguments(self, rows: RowTensors, weights: Tensors) -> tuple[Any, ...]:
        """`arguments` for a launch of what `adding` gave."""
        return self.arguments(rows, weights)

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """The sums in that launch's results, (rows that add the same, sums)."""
        raise NotImplementedError(f"{self.name} adds nothing that can be chosen")

    @abstractmethod
    def bytes_moved(self, shape: Shape, precision: Precision, m: int) -> int:
        """The fewest bytes that must cross the memory bus: each input read once, each output written once."""

    def message_bytes(self, shape: Shape, precision: Precision, m: int) -> int:
        """Bytes that each of several ranks gives to a collective; 0 where no ranks compute together."""
        return 0

    def bus_bytes(self, shape: Shape, precision: Precision, m: int) -> float:
        """The fewest bytes that each rank must send; likewise."""
        return 0.0

    def row_bytes(self, shape: Shape, precision: Precision, universe: int) -> float:
        """What a row of a universe adds to `bytes_moved`, without what all rows share."""
        whole, one = (self.bytes_moved(shape, precision, m) for m in (universe, 1))
        return one if universe == 1 else (whole - one) / (universe - 1)

    def verification_bytes(self, shape: Shape, precision: Precision, universe: int) -> int:
        """Bytes of the device's memory that a verification takes at most, about."""
        return _TIMES_HELD * self.bytes_moved(shape, precision, universe)

    def row_sizes(self, shape: Shape) -> tuple[int, ...]:
        """Elements of a row in each tensor of `rows`."""
        return (shape.k,)

    def huge_rows(self, shape: Shape) -> int:
        """The fewest rows with which an input or a result has more than 2^31 elements, and a few; 0 for sequences."""
        results = (math.prod(sizes) for sizes in self.result_shapes(shape, 1))
        return OFFSETS // max(*self.row_sizes(shape), *results) + _BEYOND

    def huge_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes of the inputs and results of a launch of `huge_rows`."""
        rows = self.huge_rows(shape)
        return self.bytes_moved(shape, precision, rows) if rows else 0

    def far_bytes(self, shape: Shape, precision: Precision, universe: int) -> int:
        """Bytes of KV caches whose pages lie beyond 2^31 elements; 0 where rows are no sequences."""
        return 0

    def many_pages_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes of KV caches of more pages than 16 bits count; 0 where rows are no sequences."""
        return 0

    @abstractmethod
    def operations(self, shape: Shape, m: int) -> int:
        """Floating-point operations that the definition asks for."""


def item_sizes(precision: Precision) -> tuple[int, int]:
    """Bytes of an input element and of a result element."""
    return ITEM_SIZE[precision.input], ITEM_SIZE[precision.output]


@lru_cache(1 << 15)
def row_ids(company: Batch, device: torch.device) -> torch.Tensor:
    """Identities of a company's rows, as an index on a device."""
    return copy_to_device(company.rows, device)


@cache
def operators() -> dict[str, Operator]:
    """Every operator by name, in the order of their files' ``ORDER`` and of their ``OPERATORS``.

    Raises:
        PluginError: a file offers something else.
    """
    files = sorted(offering(__package__, "OPERATORS"), key=lambda file: getattr(file, "ORDER", 0))
    return {operator.name: operator for file in files for operator in _offered(file)}


def _offered(file: ModuleType) -> Sequence[Operator]:
    """A file's operators, each with everything that makes one."""
    offered = file.OPERATORS
    if not isinstance(offered, Sequence) or not all(isinstance(one, Operator) for one in offered):
        raise PluginError(
            f"{file.__file__}: OPERATORS is {offered!r}: expected operators, such as OPERATORS = (Mine(),)"
        )
    for one in offered:
        if missing := [name for name in ("name", "summary", "dims", "shapes") if not hasattr(one, name)]:
            raise PluginError(f"{file.__file__}: operator {type(one).__name__} has no {' and no '.join(missing)}")
    return offered
