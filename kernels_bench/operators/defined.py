"""An operator that a user defines by what one row of it is."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Self

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.base import Operator, RowTensors, Tensors, largest, roundoff, smallest
from kernels_bench.operators.definitions import CU_SEQLENS, definition_of, refuse_no_share
from kernels_bench.operators.inputs.described import (
    FURTHER,
    Making,
    another_number,
    described_rows,
    described_shared,
    lengths_of_rows,
    some_say_the_same,
    torch_dtype_of,
)
from kernels_bench.operators.inputs.packed import a_line_a_token, packed_rows, sequences_of
from kernels_bench.operators.inputs.rows import turned_within
from kernels_bench.records.cases import Precision, Shape
from kernels_bench.records.definition import Constant, Definition, DefinitionError, TensorSpec
from kernels_bench.relations.batch import Batch, ResultRows

Function = Callable[..., Any]

OWN_FAMILY = "own"
"""The family of all operators that users define."""

_ROUNDINGS = 16
"""By default so many roundings of a row's largest number are allowed, and more in fp32 of rows of many elements."""
_ASKED_ROWS = 3
"""Rows of which a reference is asked what its results are."""
_FEWEST_WIDE = 64
"""Rows of fewer elements are not tried with more than 2^31 of them: no device has that many rows."""


class DefinedOperator(Operator):
    """An operator of your own: make one with `define`.

    Attributes:
        definition: what was said of it, as plain data.
        sequences: `universe` where rows are sequences, fewer than elsewhere: there is room for every row to be as long
            as the longest.
        timed_sequences: `timed`, likewise.
    """

    weights_tell = False
    sequences: ClassVar[Mapping[str, int]] = {"cuda": 512, "cpu": 128}
    timed_sequences: ClassVar[Mapping[str, tuple[int, ...]]] = {"cuda": (1, 16, 256), "cpu": (1, 16, 64)}
    own = True
    family = OWN_FAMILY

    def __init__(
        self,
        definition: Definition,
        reference: Function | None = None,
        allowed_error: float | Function | None = None,
        at: Shape | None = None,
    ) -> None:
        self.definition = definition
        self._reference, self._allowed_error, self._at = reference, allowed_error, at
        usual = self._measured(definition)
        # Other operators have these once and for all by their class; of these each has its own.
        vars(self).update(
            name=definition.name,
            summary=definition.summary,
            dims=definition.dims,
            shapes=definition.shapes,
            usual=usual,
            quick=usual[:1],
            precisions=definition.dtypes,
            overwrites=tuple(definition.arguments.index(name) for name in definition.overwrites),
            # A class may have one of its own.
            has_reference=reference is not None or type(self).reference is not DefinedOperator.reference,
            bound_is_guessed=type(self) is DefinedOperator and allowed_error is None,
            depends_on_batch=definition.depends_on_batch,
            **({} if definition.lengths is None else self._of_sequences()),
        )

    def _of_sequences(self) -> dict[str, object]:
        """What packed sequences have otherwise."""
        return {"rows_are": "packed", "universe": self.sequences, "timed": self.timed_sequences}

    @staticmethod
    def _measured(definition: Definition) -> tuple[str, ...]:
        """Names of the shapes measured by default on a GPU."""
        return tuple(shape.label for shape in definition.shapes)

    @classmethod
    def define(  # noqa: PLR0913 - one argument for each thing that can be said
        cls,
        name: str,
        *,
        rows: Mapping[str, TensorSpec | Sequence[int | str]],
        shapes: Mapping[str, Mapping[str, int]],
        shared: Mapping[str, TensorSpec | Sequence[int | str] | Constant] | None = None,
        results: Any = None,
        reference: Function | None = None,
        allowed_error: float | Function | None = None,
        arguments: Sequence[str] | None = None,
        overwrites: Sequence[str] = (),
        lengths: tuple[int, int] | None = None,
        dtypes: Sequence[str] = ("bf16", "fp16", "fp32"),
        depends_on_batch: str = "",
        summary: str = "",
    ) -> Self:
        """Define an operator by what one row of it is, and what all rows share.

        Args:
            name: as it is typed on command lines; no built-in operator's.
            rows: each tensor that belongs to a row, by name: its sizes behind the dimension that counts rows, such
                as ``("2*d",)``, or ``floats(…)`` or ``integers(…)``, which can say a dtype and a range.
            shapes: sizes by the shape's name, such as ``{"odd": {"d": 1003}}``; all shapes have the same sizes.
            shared: what all rows share, by name: tensors likewise, without a dimension for rows, or constants.
            results: sizes of a result behind the dimension that counts rows; a list where there are several results.
                It may be left out where there is a reference, which tells them.
            reference: the exact result; takes what it names of the tensors (float64; integers as int64), constants
                and sizes, and gives float64 (or whole numbers), the first dimension counting rows. Without it the
                tool compares bits and does not judge whether results are right.
            allowed_error: how far from the reference a result may be: a share of the largest number in the row's
                inputs and result, or a function of what ``reference`` gives, which gives as many bounds. Whole
                numbers are right or not, unless a function says otherwise.
            arguments: what a kernel takes, in order: names of ``rows``, ``shared``, or sizes, which are handed on as
                numbers. By default the rows' tensors, ``cu_seqlens`` if there are ``lengths``, then what is shared.
            overwrites: those of the rows' tensors that a kernel may write into.
            lengths: the fewest and the most tokens of a row, where rows are sequences: their tokens are packed into
                tensors of shape (tokens, …), ``cu_seqlens`` (int32, rows + 1) says where each begins, and results
                have a line a token.
            dtypes: of inputs and result, such as ``bf16`` or ``bf16:fp32``; the first of them is used at every shape.
            depends_on_batch: why a row's result depends on its batch by definition, such as "the scale is the maximum
                over the batch". Batches of other rows may then have other bits, and the reference is given whole ones.
            summary: one line for ``--list``.

        Raises:
            DefinitionError: it makes no sense; the message says what is wrong, and what is expected.
        """
        more = {"arguments": arguments, "overwrites": overwrites, "lengths": lengths, "dtypes": dtypes}
        more["depends_on_batch"] = depends_on_batch
        made = definition_of(name, rows, shapes, shared or {}, results, summary=summary, **more)
        if results is None and reference is None:
            raise DefinitionError(f'operator {name!r}: give results=("d",), or a reference, which tells its results')
        refuse_no_share(made, allowed_error)
        operator = cls(made, reference, allowed_error)
        if reference is not None:
            operator._refuse_unknown_names(reference)
        return operator

    def _refuse_unknown_names(self, reference: Function) -> None:
        known = [*self._row_names, *self.definition.shared, *self.definition.dims]
        try:
            parameters = inspect.signature(reference).parameters.values()
        except (TypeError, ValueError):
            what = "is no function of Python's, so that what it takes is unknown: put it into a lambda"
            raise DefinitionError(f"operator {self.name!r}: its reference {what}") from None
        for parameter in parameters:
            needed = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
            if needed and parameter.name not in known:
                raise DefinitionError(
                    f"operator {self.name!r}: its reference takes {parameter.name!r}; there is {', '.join(known)}"
                )

    @property
    def _row_names(self) -> tuple[str, ...]:
        packed = (CU_SEQLENS,) if self.definition.lengths else ()
        return (*self.definition.rows, *packed)

    def for_shape(self, shape: Shape) -> Operator:
        """The operator at one shape, whose sizes its kernels and its reference may ask for."""
        return type(self)(self.definition, self._reference, self._allowed_error, shape)

    # --- data --------------------------------------------------------------------------------------------

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """Each tensor, (rows, …); of packed sequences (rows x longest, …), a line for each token there can be."""
        making, lengths = Making(dict(shape.sizes), dtype, seed, device), self.definition.lengths
        found, special, ranged = dict[str, torch.Tensor](), False, 0
        for name, spec in self.definition.rows.items():
            whole = spec if lengths is None else spec.model_copy(update={"dims": (lengths[1], *spec.dims)})
            found[name] = described_rows(whole, name, count, making, added=special, number=ranged)
            # Of two infinities, or NaN, a sum would be left open: later tensors have them where the first has none.
            special |= not spec.integers and spec.low is None
            ranged += spec.integers or spec.low is not None
        if lengths is None:
            some_say_the_same(found, self.definition.rows, making)
        return tuple(table if lengths is None else table.flatten(0, 1) for table in found.values())

    def weights(self, shape: Shape, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """The tensors that all rows share."""
        making, tensors = Making(dict(shape.sizes), dtype, seed, device), self.definition.tensors
        return tuple(described_shared(spec, name, making) for name, spec in tensors.items())

    @property
    def _sizes(self) -> dict[str, int]:
        return dict(self._at.sizes) if self._at is not None else {}

    def other_weights(self, weights: Tensors) -> Tensors:
        """The same values in another order, and of a single one another, all in their ranges."""
        specs = self.definition.tensors.values()
        return tuple(
            another_number(weight, spec, self._sizes) if weight.numel() == 1 else turned_within(weight)
            for weight, spec in zip(weights, specs, strict=True)
        )

    def arguments(self, rows: RowTensors, weights: Tensors) -> tuple[Any, ...]:
        """What the definition says, in its order."""
        known = self._by_name(rows, weights)
        return tuple(known[name] for name in self.definition.arguments)

    def _by_name(self, rows: RowTensors, weights: Tensors) -> dict[str, Any]:
        tensors = dict(zip(self._row_names, rows, strict=True)) | dict(
            zip(self.definition.tensors, weights, strict=True)
        )
        return {**tensors, **self.definition.constants, **self._sizes}

    # --- packed sequences --------------------------------------------------------------------------------

    @property
    def _packed(self) -> bool:
        return self.definition.lengths is not None

    def lines(self, company: Batch, count: int, shape: Shape) -> ResultRows:
        """A line a row, or a token."""
        if self.definition.lengths is None:
            return super().lines(company, count, shape)
        return a_line_a_token(company, count, self.definition.lengths)

    def locate_row(self, line: int) -> tuple[int, int | None]:
        """The row and, of a packed sequence, the token."""
        return divmod(line, self.definition.lengths[1]) if self.definition.lengths else (line, None)

    def gather(self, company: Batch, count: int, shape: Shape, tables: RowTensors, weights: Tensors) -> RowTensors:
        """The rows' tensors, and where each sequence begins if they are packed."""
        if self.definition.lengths is None:
            return super().gather(company, count, shape, tables, weights)
        rows = sequences_of(company, count, self.definition.lengths)
        return packed_rows(rows, count, self.definition.lengths, tables)

    def view(self, company: Batch, tables: RowTensors) -> RowTensors | None:
        """Never of packed sequences."""
        return None if self._packed else super().view(company, tables)

    def inputs_of(self, lines: torch.Tensor, tables: RowTensors) -> RowTensors:
        """The lines' rows; of packed sequences all tokens, and last where in their results the lines stand."""
        if self.definition.lengths is None:
            return super().inputs_of(lines, tables)
        longest = self.definition.lengths[1]
        count = len(tables[0]) // longest - FURTHER
        rows, which = (lines // longest).unique(return_inverse=True)
        packed = packed_rows(rows.cpu().numpy(), count, self.definition.lengths, tables)
        return *packed, packed[-1][which] + lines % longest

    # --- the reference -----------------------------------------------------------------------------------

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """What the user's reference gives, in float64 or int64.

        Raises:
            DefinitionError: it gives something else.
        """
        rows, lines = (rows[:-1], rows[-1]) if self._packed else (rows, None)
        found = self._asked(rows, weights)
        return found if lines is None else tuple(result[lines] for result in found)

    def _asked(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        assert self._reference is not None
        known = self._by_name(tuple(map(_wide, rows)), tuple(map(_wide, weights)))
        parameters = inspect.signature(self._reference).parameters
        takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        try:
            given = self._reference(**{name: known[name] for name in known if takes_all or name in parameters})
        except NameError as error:
            if error.name in self.definition.dims:
                taken = ", ".join([*parameters, str(error.name)])
                self._refuse(f"names the size {error.name} and does not take it: write lambda {taken}: …")
            raise
        return self._checked(given, len(rows[0]))

    def _checked(self, given: Any, m: int) -> RowTensors:
        results = tuple(given) if isinstance(given, Sequence) else (given,)
        for result in results:
            if not isinstance(result, torch.Tensor):
                self._refuse(f"gives {type(result).__name__} instead of a tensor")
            if not result.dim() or len(result) != m:
                self._refuse(f"gives shape {tuple(result.shape)} for {m} rows: its first dimension must count them")
            if result.dtype is not torch.float64 and result.is_floating_point():
                self._refuse(f"gives {result.dtype}: it must compute in float64")
        return results

    def _refuse(self, what: str) -> None:
        raise DefinitionError(f"operator {self.name!r}: its reference {what}")

    def reference_and_tolerance(
        self, rows: RowTensors, weights: Tensors, out: torch.dtype
    ) -> tuple[RowTensors, RowTensors]:
        """The same, where a result too large for its dtype is infinite, as it is there."""
        exact = self.reference(rows, weights)
        allowed = self.tolerance(rows, weights, exact, out)
        each = zip(exact, self._dtypes_of(exact, out), self._are_whole(exact), strict=True)
        return tuple(one.double() if whole else _overflown(one, dtype) for one, dtype, whole in each), allowed

    def _are_whole(self, exact: RowTensors) -> tuple[bool, ...]:
        """Whether each result is whole numbers, such as ids, which are never too large for the case's dtype."""
        if self.definition.results is None:
            return tuple(not one.is_floating_point() for one in exact)
        return tuple(spec.integers for spec in self.definition.results)

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """As the user says; by default some roundings of the largest number in the row's inputs and result."""
        if callable(self._allowed_error):
            bounds = self._allowed_error(*exact)
            found = tuple(bounds) if isinstance(bounds, Sequence) else (bounds,)
            if len(found) != len(exact):
                raise DefinitionError(
                    f"operator {self.name!r}: its allowed_error gives {len(found)} bounds for {len(exact)} results"
                )
            return found
        return tuple(
            self._bound(one, rows, self._share(rows, own), smallest(own))
            for one, own in zip(exact, self._dtypes_of(exact, out), strict=True)
        )

    def _share(self, rows: RowTensors, out: torch.dtype) -> float:
        """The allowed error as a share; in eight bits every rounding is so coarse that one is allowed."""
        if isinstance(self._allowed_error, int | float):
            return float(self._allowed_error)
        width = sum(math.prod(table.shape[1:]) for table in rows)
        roundings = 1 if out.itemsize == 1 else _ROUNDINGS
        return float(roundings * roundoff(out) + 4 * roundoff(torch.float32) * width**0.5)

    def _dtypes_of(self, exact: RowTensors, out: torch.dtype) -> tuple[torch.dtype, ...]:
        """Each result's dtype: ``out`` where the definition says no other, and of whole numbers."""
        specs = self.definition.results or (TensorSpec(dims=()),) * len(exact)
        return tuple(out if spec.integers else torch_dtype_of(spec, out) for spec in specs)

    def _bound(self, exact: torch.Tensor, rows: RowTensors, share: float, least: float) -> torch.Tensor:
        if not exact.is_floating_point():  # such as ids: right, or not
            return torch.full(exact.shape, 0.5, dtype=torch.float64, device=exact.device)
        size = torch.stack([largest(exact), *(largest(table) for table in self._floating(rows))]).amax(0)
        bound = (share * size + 2 * least).reshape(-1, *[1] * (exact.dim() - 1))
        return bound.expand(exact.shape).contiguous()

    def _floating(self, rows: RowTensors) -> list[torch.Tensor]:
        """What of a result's lines depends on: of packed sequences each line's whole sequence."""
        if not self._packed:
            return [table for table in rows if table.is_floating_point()]
        *tables, begins, lines = rows
        longest = int(begins.diff().max())
        sequence = torch.searchsorted(begins, lines, right=True) - 1
        places = torch.arange(longest, device=lines.device)
        tokens = (begins[sequence, None] + places).minimum(begins[sequence + 1, None] - 1)
        return [table[tokens] for table in tables if table.is_floating_point()]

    # --- results and what they cost ----------------------------------------------------------------------

    def _results(self, shape: Shape) -> tuple[tuple[tuple[int, ...], str], ...]:
        """Sizes and dtype of each result; the latter is empty where it is the case's."""
        if self.definition.results is not None:
            return tuple((spec.sizes(dict(shape.sizes)), spec.dtype) for spec in self.definition.results)
        if self._reference is not None:
            return _told_by_reference(self, shape)
        # Where only data of it is known, as in a process without torch: about as large as its rows.
        first = next(iter(self.definition.rows.values()))
        return ((first.sizes(dict(shape.sizes)), ""),)

    def result_shapes(self, shape: Shape, m: int) -> tuple[tuple[int, ...], ...]:
        """What the definition says, or the reference gives."""
        return tuple((m, *trailing) for trailing, _ in self._results(shape))

    def result_dtypes(self, shape: Shape, precision: Precision) -> tuple[torch.dtype, ...]:
        """The case's but where the definition says another, or the reference gives whole numbers."""
        usual = precision.torch_output
        return tuple(torch_dtype_of(TensorSpec(dims=(), dtype=dtype), usual) for _, dtype in self._results(shape))

    def refuse_wrong_reference(self) -> None:
        """Ask the reference for a few rows of the smallest shape, and see that it gives what was said.

        Raises:
            DefinitionError: it fails, or gives something else.
        """
        if self._reference is None:
            return
        shape = min(self.shapes, key=lambda shape: math.prod(size for _, size in shape.sizes))
        told = _told_by_reference(self, shape)
        said = [(one.sizes(dict(shape.sizes)), one.integers) for one in self.definition.results or ()]
        gives = [(trailing, bool(dtype)) for trailing, dtype in told]
        if said and [trailing for trailing, _ in said] != [trailing for trailing, _ in gives]:
            shapes = [", ".join(str(trailing) for trailing, _ in each) for each in (gives, said)]
            self._refuse(f"gives rows of shape {shapes[0]} at shape {shape.label}, where results says {shapes[1]}")
        for number, ((_, whole), (_, really)) in enumerate(zip(said, gives, strict=False)):
            if whole and not really:
                self._refuse(f"gives no whole numbers as result {number}, where results says so")

    def row_sizes(self, shape: Shape) -> tuple[int, ...]:
        """Elements of each tensor of a row, of all tokens of the longest if it is a sequence."""
        tokens = self.definition.lengths[1] if self.definition.lengths else 1
        return tuple(tokens * math.prod(spec.sizes(dict(shape.sizes))) for spec in self.definition.rows.values())

    def huge_rows(self, shape: Shape) -> int:
        """None of sequences, nor of rows of few elements."""
        wide = not self._packed and max(self.row_sizes(shape)) >= _FEWEST_WIDE
        return super().huge_rows(shape) if wide else 0

    def bytes_moved(self, shape: Shape, precision: Precision, m: int) -> int:
        """Every tensor read once, and the results written once."""
        sizes, lengths = dict(shape.sizes), self.definition.lengths
        lines = m if lengths is None else int(lengths_of_rows(m, lengths)[:m].sum())
        row = sum(math.prod(s.sizes(sizes)) * s.item_bytes(precision.input) for s in self.definition.rows.values())
        shared = sum(
            math.prod(s.sizes(sizes)) * s.item_bytes(precision.input) for s in self.definition.tensors.values()
        )
        results = sum(
            math.prod(trailing) * TensorSpec(dims=(), dtype=dtype).item_bytes(precision.output)
            for trailing, dtype in self._results(shape)
        )
        return lines * (row + results) + shared

    def operations(self, shape: Shape, m: int) -> int:
        """Nobody said: its speed is held against the memory bus alone."""
        return 0


def _overflown(exact: torch.Tensor, out: torch.dtype) -> torch.Tensor:
    """What is too large for a dtype is infinite; in eight bits it may be the largest number or NaN: it stays."""
    if out.itemsize == 1:
        return exact.double()
    return torch.where(exact.abs() > torch.finfo(out).max, exact * torch.inf, exact.double())


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor.long()


@lru_cache(1 << 10)
def _told_by_reference(operator: DefinedOperator, shape: Shape) -> tuple[tuple[tuple[int, ...], str], ...]:
    """Sizes and dtype of each result, as the reference gives them for a few rows."""
    at = operator.for_shape(shape)
    assert isinstance(at, DefinedOperator)
    try:  # without data, where the reference allows it
        results = at._asked(*_a_few(at, shape, torch.device("meta")))
    except DefinitionError:
        raise
    except Exception:
        results = at._asked(*_a_few(at, shape, torch.device("cpu")))
    return tuple((tuple(result.shape[1:]), "" if result.is_floating_point() else "int64") for result in results)


def _a_few(operator: DefinedOperator, shape: Shape, device: torch.device) -> tuple[RowTensors, Tensors]:
    """A few rows, of packed sequences one of a few tokens, and what all rows share."""
    sizes, definition = dict(shape.sizes), operator.definition
    if device.type == "meta":
        rows = tuple(_empty(spec, (_ASKED_ROWS, *spec.sizes(sizes))) for spec in definition.rows.values())
        shared = tuple(_empty(spec, spec.sizes(sizes)) for spec in definition.tensors.values())
    else:
        rows = tuple(t[:_ASKED_ROWS] for t in operator.rows(shape, _ASKED_ROWS, torch.float32, 0, device))
        shared = operator.weights(shape, torch.float32, 0, device)
    packed = (torch.tensor([0, _ASKED_ROWS], dtype=torch.int32),) if definition.lengths else ()
    return (*rows, *packed), shared


def _empty(spec: TensorSpec, sizes: tuple[int, ...]) -> torch.Tensor:
    return torch.empty(sizes, dtype=torch.int64 if spec.integers else torch.float64, device="meta")


def definition_only(definitions: Sequence[Definition]) -> dict[str, Operator]:
    """Operators of which nothing but data is known, where their files are not loaded: what they cost can be told."""
    return {definition.name: DefinedOperator(definition) for definition in definitions}
