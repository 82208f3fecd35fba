"""What a user says of an operator of their own, as plain data: sizes are expressions, so that no torch is needed."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import cache

from kernels_bench.records.cases import Shape
from profiles.run_files.record import Record

TENSOR_DTYPES = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp32": "float32",
    "fp8_e4m3": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
    "int64": "int64",
    "int32": "int32",
    "int8": "int8",
    "uint8": "uint8",
}
"""Short names of the dtypes that a tensor of an operator of one's own may have, and torch's."""
ITEM_BYTES = {
    "bf16": 2, "fp16": 2, "fp32": 4, "fp8_e4m3": 1, "fp8_e5m2": 1, "int64": 8, "int32": 4, "int8": 1, "uint8": 1,
}  # fmt: skip
LARGEST_INTEGER = {"int64": 2**63 - 1, "int32": 2**31 - 1, "int8": 127, "uint8": 255}

Number = int | float
Expression = int | float | str
"""A number, or an expression in the shape's sizes with + - * // and parentheses, such as ``2*d``."""
Constant = bool | int | float | str

_OPERATIONS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


class DefinitionError(ValueError):
    """A definition that makes no sense; the message says what is wrong, where, and what is expected."""


class TensorSpec(Record):
    """One tensor: of each row, of what all rows share, or of a result.

    Attributes:
        dims: its sizes, behind the dimension that counts rows if it has one.
        dtype: one of `TENSOR_DTYPES`; empty where it is the case's (of a result the result's).
        low: no value is less; None where any may be.
        high: values are less than this, of integers; of others they may be equal to it.
    """

    dims: tuple[Expression, ...]
    dtype: str = ""
    low: Expression | None = None
    high: Expression | None = None

    @property
    def integers(self) -> bool:
        """Whether its values are whole numbers."""
        return self.dtype in LARGEST_INTEGER

    def sizes(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Its dimensions at a shape's sizes.

        Raises:
            DefinitionError: one is no whole number from 1 on.
        """
        found = tuple(evaluated(one, sizes) for one in self.dims)
        for size, written in zip(found, self.dims, strict=True):
            if not isinstance(size, int) or size < 1:
                raise DefinitionError(f"the size {written!r} is {size} where {told(sizes)}: it must be from 1 on")
        return tuple(int(size) for size in found)

    def item_bytes(self, usual: str) -> int:
        """Bytes of an element, where the case's dtype is ``usual``."""
        return ITEM_BYTES[self.dtype or usual]


class Definition(Record):
    """An operator that a user defined, without the functions that belong to it.

    Attributes:
        name: as users type it.
        summary: one line for ``--list``.
        rows: each tensor that belongs to a row, by name.
        shared: what all rows share, by name: tensors, and constants that are handed on as they are.
        results: each tensor of a result, behind the dimension that counts rows; None where the reference tells it.
        arguments: names of what a kernel takes, in its order: of ``rows``, of ``shared``, or of a size.
        overwrites: those of them that a kernel may write into.
        dims: names of the sizes that its shapes have, in the order of a shape's token.
        shapes: known by name.
        dtypes: precisions measured by default.
        lengths: the fewest and the most tokens of a row, where rows are sequences that are packed; None elsewhere.
        depends_on_batch: why a row's result depends on its batch by definition; empty where it must not.
    """

    name: str
    summary: str
    rows: dict[str, TensorSpec]
    shared: dict[str, TensorSpec | Constant]
    results: tuple[TensorSpec, ...] | None
    arguments: tuple[str, ...]
    overwrites: tuple[str, ...]
    dims: tuple[str, ...]
    shapes: tuple[Shape, ...]
    dtypes: tuple[str, ...]
    lengths: tuple[int, int] | None = None
    depends_on_batch: str = ""

    @property
    def tensors(self) -> dict[str, TensorSpec]:
        """Those of what all rows share that are tensors."""
        return {name: spec for name, spec in self.shared.items() if isinstance(spec, TensorSpec)}

    @property
    def constants(self) -> dict[str, Constant]:
        """The others."""
        return {name: value for name, value in self.shared.items() if not isinstance(value, TensorSpec)}


def evaluated(expression: Expression, sizes: Mapping[str, int]) -> Number:
    """The value of an expression at a shape's sizes.

    Raises:
        DefinitionError: it is none, or names a size that the shape does not have.
    """
    if not isinstance(expression, str):
        return expression
    try:
        return _value(_parsed(expression.strip()), sizes)
    except KeyError as missing:
        raise DefinitionError(f"{expression!r} needs a size {missing.args[0]}: there is {told(sizes)}") from None
    except ZeroDivisionError:
        raise DefinitionError(f"{expression!r} divides by zero where {told(sizes)}") from None
    except (SyntaxError, TypeError, ValueError):
        example = f"{next(iter(sizes), 'd')}//2"
        raise DefinitionError(f"{expression!r} is no size: expected a number or such as {example!r}") from None


@cache
def _parsed(expression: str) -> ast.expr:
    """A result's sizes are asked for at every call of a kernel."""
    return ast.parse(expression, mode="eval").body


def _value(node: ast.expr, sizes: Mapping[str, int]) -> Number:
    """An expression's number, where sizes stand for themselves."""
    match node:
        case ast.Name(name):
            return sizes[name]
        case ast.Constant(int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(ast.USub(), operand):
            return -_value(operand, sizes)
        case ast.BinOp(left, operation, right) if type(operation) in _OPERATIONS:
            return _OPERATIONS[type(operation)](_value(left, sizes), _value(right, sizes))
    raise ValueError(node)


def told(sizes: Mapping[str, int]) -> str:
    """Some sizes in a sentence, such as ``d=1003``."""
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "none"
