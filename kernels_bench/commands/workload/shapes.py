"""Which shapes of an operator are measured: its usual ones, those that were named, and those whose sizes were typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from kernels_bench.console.errors import UsageError
from kernels_bench.console.text import suggestion
from kernels_bench.operators.definitions import refuse_unfit
from kernels_bench.records.cases import MAY_BE_ZERO, Shape
from kernels_bench.records.catalogue import OperatorInfo
from kernels_bench.records.definition import Definition, DefinitionError
from kernels_bench.records.selection import Selection

CPU_SHAPES = ("small",)


def shapes_of(operator: OperatorInfo, selection: Selection, device: str) -> list[Shape]:
    """An operator's shapes in a run; of what was typed those that are the operator's, or fit it.

    Raises:
        UsageError: sizes that no operator, or not this one, can have.
    """
    wanted: Sequence[str] | None = selection.shapes
    small = wanted is None and device == "cpu" and not operator.own
    if wanted is None:
        wanted = CPU_SHAPES if small else _usual_shapes(operator, selection.quick)
    named = [shape for word in wanted for shape in operator.shapes if shape.label == word or set_name(shape) == word]
    if small and selection.quick:
        named = named[-1:]  # which tells most: the unaligned one, one head for all, the most ranks
    sized = [shape for sizes in _sizes_typed(wanted) if (shape := _shape_of(operator, sizes)) is not None]
    return list({shape.token: shape for shape in [*named, *sized]}.values())


def _usual_shapes(operator: OperatorInfo, quick: bool) -> Sequence[str]:
    """Names of a run's shapes; of an operator that short runs leave out, and that was asked for by name, the first."""
    return (operator.quick or operator.usual[:1]) if quick else operator.usual


def set_name(shape: Shape) -> str:
    """The set that a shape is of, such as a model's name."""
    return shape.label.partition("/")[0]


def _sizes_typed(words: Sequence[str]) -> list[tuple[int, ...]]:
    """Sizes among the words: ``NxK`` (``BxNxK``) stands alone, bare numbers pair up as N,K."""
    bare = [int(word) for word in words if word.isdecimal()]
    if len(bare) % 2 and len(bare) > 1:
        raise UsageError(f"--shapes {','.join(words)}: bare numbers are read in pairs N,K, and one is left over")
    joined = [tuple(int(size) for size in word.split("x")) for word in words if _is_sizes(word)]
    pairs = [tuple(bare[i : i + 2]) for i in range(0, len(bare), 2)]
    for sizes in [*pairs, *joined]:
        if not all(size <= 1 << 20 for size in sizes):
            _refuse_sizes("x".join(map(str, sizes)))
    return [*pairs, *joined]


def _refuse_sizes(label: str) -> NoReturn:
    raise UsageError(f"--shapes {label}: sizes must be between 1 and {1 << 20}")


def _is_sizes(word: str) -> bool:
    return "x" in word and all(part.isdecimal() for part in word.split("x"))


def _shape_of(operator: OperatorInfo, sizes: tuple[int, ...]) -> Shape | None:
    """A shape of the typed sizes; a row operator takes K of N,K; None where they do not fit."""
    dims = operator.dims
    if dims == ("k",) and len(sizes) == 2:
        sizes = sizes[1:]
    if len(sizes) != len(dims):
        return None
    named, label = dict(zip(dims, sizes, strict=True)), "x".join(map(str, sizes))
    if not all(size or name in MAY_BE_ZERO for name, size in named.items()):
        _refuse_sizes(label)
    if operator.definition is not None:
        return _own_shape(operator.definition, Shape.of(label, named))
    if named.get("heads", 1) % named.get("kv_heads", 1):
        raise UsageError(f"--shapes {label}: heads must be a multiple of those for keys and values")
    if named.get("sinks", 0) > 1:
        raise UsageError(f"--shapes {label}: its last size is 1 for sinks, or 0 for none")
    return Shape.model_validate({"label": label, **named})


def _own_shape(definition: Definition, shape: Shape) -> Shape:
    try:
        refuse_unfit(definition, shape)
    except DefinitionError as error:
        raise UsageError(f"--shapes {shape.token}: operator {definition.name!r}: {error}") from None
    return shape


def check_shape_names(operators: Sequence[OperatorInfo], chosen: Sequence[OperatorInfo], words: Sequence[str]) -> None:
    """See that every word is sizes, or a name that some operator has a shape or a set of shapes of.

    Raises:
        UsageError: one is not; what the chosen operators have is suggested.
    """
    known = _shape_names(operators)
    for word in words:
        if word not in known and not word.isdecimal() and not _is_sizes(word):
            sets = dict.fromkeys(set_name(shape) for operator in chosen for shape in operator.shapes)
            raise UsageError(f"--shapes {word}: unknown{suggestion(word, _shape_names(chosen), listed=sets)}")


def _shape_names(operators: Sequence[OperatorInfo]) -> dict[str, None]:
    """Of sets, and of single shapes."""
    shapes = [shape for operator in operators for shape in operator.shapes]
    return dict.fromkeys([*(set_name(shape) for shape in shapes), *(shape.label for shape in shapes)])
