"""What a user says of an operator of their own, checked: one clear line for whatever makes no sense."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from kernels_bench.console.text import suggestion
from kernels_bench.records.cases import PRECISIONS, Shape
from kernels_bench.records.definition import (
    LARGEST_INTEGER,
    TENSOR_DTYPES,
    Constant,
    Definition,
    DefinitionError,
    Expression,
    TensorSpec,
    evaluated,
)

CU_SEQLENS = "cu_seqlens"
"""What a kernel over packed sequences is told: where each begins, and where the last one ends."""

FLOATS = tuple(name for name in TENSOR_DTYPES if name not in LARGEST_INTEGER)


def floats(
    *dims: int | str, dtype: str | None = None, low: Expression | None = None, high: Expression | None = None
) -> TensorSpec:
    """A tensor of floating-point numbers.

    Args:
        dims: its sizes, behind the dimension that counts rows: numbers, or expressions in the shape's sizes such as
            ``"2*d"``; none of a tensor with one number a row.
        dtype: ``bf16``, ``fp16``, ``fp32``, ``fp8_e4m3`` or ``fp8_e5m2``; by default the case's.
        low: no value is less, such as 0 of scales; by default all kinds of values come, hostile ones too.
        high: no value is larger; by default one more than ``low``.

    Raises:
        DefinitionError: an unknown dtype.
    """
    if dtype is not None and dtype not in FLOATS:
        raise DefinitionError(f"floats(dtype={dtype!r}): expected one of {', '.join(FLOATS)}")
    if high is not None and low is None:
        raise DefinitionError(f"floats(high={high!r}): say what the least value is, too, by low=")
    return TensorSpec(dims=dims, dtype=dtype or "", low=low, high=high)


def integers(*dims: int | str, high: Expression | None = None, low: Expression = 0, dtype: str = "int64") -> TensorSpec:
    """A tensor of whole numbers, such as ids or positions.

    Args:
        dims: its sizes, as of `floats`.
        high: values are less than this: a number, or an expression in the shape's sizes such as ``"experts"``; by
            default less than 2^16, or than the dtype's largest.
        low: no value is less.
        dtype: ``int64``, ``int32``, ``int8`` or ``uint8``.

    Raises:
        DefinitionError: an unknown dtype.
    """
    if dtype not in LARGEST_INTEGER:
        raise DefinitionError(f"integers(dtype={dtype!r}): expected one of {', '.join(LARGEST_INTEGER)}")
    return TensorSpec(dims=dims, dtype=dtype, low=low, high=high)


def definition_of(
    name: str,
    rows: Mapping[str, Any],
    shapes: Mapping[str, Mapping[str, int]],
    shared: Mapping[str, Any],
    results: Any,
    **more: Any,
) -> Definition:
    """A definition of what a user gave.

    Raises:
        DefinitionError: it makes no sense; the message says what is wrong, and what is expected.
    """
    try:
        return _made(name, rows, shapes, shared, results, more)
    except DefinitionError as error:
        raise DefinitionError(f"operator {name!r}: {error}") from None


def _made(name: Any, rows: Any, shapes: Any, shared: Any, results: Any, more: Mapping[str, Any]) -> Definition:
    if not isinstance(name, str) or not name or set(name) & set("/,: \t\n="):
        _refuse("the name must be one word without '/', ',', '=' or ':'")
    specs = {key: _tensor(f"rows: {key}", value) for key, value in _named("rows", rows, '{"x": ("d",)}').items()}
    if not specs:
        _refuse('rows is empty: say what one row is, such as rows={"x": ("d",)}')
    known = {key: _shared(key, value) for key, value in _named("shared", shared, '{"weight": ("d",)}').items()}
    made = _shapes(shapes)
    lengths = _lengths(more["lengths"])
    dims = tuple(size for size, _ in made[0].sizes)
    _refuse_twice([*specs, *known, *dims, *([CU_SEQLENS] if lengths else [])])
    arguments = more["arguments"] or (*specs, *([CU_SEQLENS] if lengths else []), *known)
    definition = Definition(
        name=name,
        summary=more["summary"] or _summary(name, specs, known),
        rows=specs,
        shared=known,
        results=None if results is None else _results(results),
        arguments=_among("arguments", arguments, [*specs, *known, *dims, *([CU_SEQLENS] if lengths else [])]),
        overwrites=_among("overwrites", more["overwrites"], [*specs]),
        dims=dims,
        shapes=made,
        dtypes=_among("dtypes", more["dtypes"], PRECISIONS),
        lengths=lengths,
        depends_on_batch=_words("depends_on_batch", more["depends_on_batch"]),
    )
    for shape in made:
        refuse_unfit(definition, shape)
    return definition


def refuse_unfit(definition: Definition, shape: Shape) -> None:
    """See that every tensor has its sizes, and every range a value, at a shape.

    Raises:
        DefinitionError: one does not.
    """
    sizes = dict(shape.sizes)
    results = {f"result {place}": spec for place, spec in enumerate(definition.results or ())}
    for name, spec in {**definition.rows, **definition.tensors, **results}.items():
        try:
            spec.sizes(sizes)
            low, high = (None if end is None else evaluated(end, sizes) for end in (spec.low, spec.high))
        except DefinitionError as error:
            raise DefinitionError(f"{name}, shape {shape.label}: {error}") from None
        if low is not None and high is not None and not low < high:
            raise DefinitionError(f"{name}, shape {shape.label}: no value lies between {low} and {high}")


def _refuse(message: str) -> NoReturn:
    raise DefinitionError(message)


def _named(what: str, given: Any, example: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping) or not all(isinstance(key, str) and key.isidentifier() for key in given):
        _refuse(f"{what} is {given!r}: expected tensors by name, such as {what}={example}")
    return given


def _tensor(what: str, given: Any) -> TensorSpec:
    if isinstance(given, TensorSpec):
        return given
    if isinstance(given, str):
        _refuse(f"{what} is {given!r}: expected a tuple of sizes, such as ({given!r},)")
    if not isinstance(given, Sequence) or not all(isinstance(one, int | str) for one in given):
        _refuse(f"{what} is {given!r}: expected sizes such as ('d',), floats(…) or integers(…)")
    return TensorSpec(dims=tuple(given))


def _shared(name: str, given: Any) -> TensorSpec | Constant:
    return given if isinstance(given, bool | int | float | str) else _tensor(f"shared: {name}", given)


def _results(given: Any) -> tuple[TensorSpec, ...]:
    several = given.values() if isinstance(given, Mapping) else given if isinstance(given, list) else [given]
    found = tuple(_tensor("results", one) for one in several)
    return found or _refuse('results is empty: expected such as results=("d",), or a list of several')


def _shapes(given: Any) -> tuple[Shape, ...]:
    if not isinstance(given, Mapping) or not given:
        _refuse(f'shapes is {given!r}: expected sizes by name, such as shapes={{"odd": {{"d": 1003}}}}')
    return tuple(_shape(label, sizes, next(iter(given.items()))) for label, sizes in given.items())


def _shape(label: Any, sizes: Any, first: tuple[str, Mapping[str, int]]) -> Shape:
    if not isinstance(label, str) or not label or set(label) & set(", \t\n") or label.isdecimal():
        _refuse(f"shapes: the name {label!r} must be a word without ',' that is no number")
    if not isinstance(sizes, Mapping) or not sizes:
        _refuse(f'shape {label} is {sizes!r}: expected sizes by name, such as {{"d": 1003}}')
    for size, value in sizes.items():
        if not isinstance(size, str) or not size.isidentifier():
            _refuse(f"shape {label}: {size!r} is no name of a size")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            _refuse(f"shape {label}: {size} is {value!r}, and must be a whole number from 1 on")
    if missing := [size for size in first[1] if size not in sizes]:
        _refuse(f"shape {label} has no size {missing[0]}, which shape {first[0]} has")
    if further := [size for size in sizes if size not in first[1]]:
        _refuse(f"shape {label} has a size {further[0]}, which shape {first[0]} does not have")
    return Shape.of(label, {size: sizes[size] for size in first[1]})


def _lengths(given: Any) -> tuple[int, int] | None:
    if given is None:
        return None
    fits = isinstance(given, tuple) and len(given) == 2 and all(isinstance(one, int) for one in given)
    if not fits or not 1 <= given[0] <= given[1]:
        _refuse(f"lengths is {given!r}: expected the fewest and the most tokens of a row, such as lengths=(1, 64)")
    return given[0], given[1]


def _words(what: str, given: Any) -> str:
    if not isinstance(given, str) or "\n" in given:
        _refuse(f"{what} is {given!r}: expected words on one line, such as 'the scale is the maximum over the batch'")
    return given


def _refuse_twice(names: Sequence[str]) -> None:
    for place, name in enumerate(names):
        if name in names[:place]:
            _refuse(f"two things are called {name}: tensors, constants and sizes need names of their own")


def _among(what: str, given: Any, known: Collection[str]) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Collection):
        _refuse(f"{what} is {given!r}: expected a tuple of names, such as ({next(iter(known))!r},)")
    for name in given:
        if name not in known:
            _refuse(f"{what} names {name!r}, which is unknown{suggestion(str(name), known)}")
    return tuple(given)


def _summary(name: str, rows: Mapping[str, TensorSpec], shared: Mapping[str, TensorSpec | Constant]) -> str:
    def told(key: str, spec: TensorSpec | Constant, rows: Sequence[str]) -> Iterator[str]:
        dims = ",".join([*rows, *map(str, spec.dims)]) if isinstance(spec, TensorSpec) else ""
        yield f"{key}[{dims}]" if dims else key

    each = [*((key, spec, ["M"]) for key, spec in rows.items()), *((key, spec, []) for key, spec in shared.items())]
    return f"{name}({', '.join(text for one in each for text in told(*one))})"


def refuse_no_share(definition: Definition, allowed_error: object) -> None:
    """See that an operator's allowed error is none, a function, or a number that can be a share of what it computes.

    Raises:
        DefinitionError: it is none of these, or all results are whole numbers.
    """
    if allowed_error is None or callable(allowed_error):
        return
    said = f"operator {definition.name!r}: allowed_error is {allowed_error!r}"
    number = isinstance(allowed_error, int | float) and not isinstance(allowed_error, bool) and allowed_error
    if not 0 < number < math.inf:
        raise DefinitionError(f"{said}: expected a share above 0, or a function")
    if definition.results and all(spec.integers for spec in definition.results):
        raise DefinitionError(f"{said}: whole numbers are right or not; a function of the results can allow others")
