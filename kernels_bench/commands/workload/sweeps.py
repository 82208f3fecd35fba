"""At which M, and at which lengths, something is done with an operator's cases; and which cases are not timed there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kernels_bench.commands.workload.shapes import set_name
from kernels_bench.console.errors import UsageError
from kernels_bench.operators import operators as all_operators
from kernels_bench.operators.attention import Attention
from kernels_bench.records.cases import Case, Load, Shape
from kernels_bench.records.catalogue import OperatorInfo
from kernels_bench.records.selection import Selection
from kernels_bench.relations.base import are_sequences, sweep
from profiles.run_files.record import Record

# M at which the results of arms are compared with each other.
DIGESTED = (1, 16, 256, 2048)
# Sequences whose KV caches together are larger are not timed: every arm holds its own.
MOST_CACHE = 2 << 30


class Sweep(Record):
    """Every M at which something is done with one operator's cases.

    Attributes:
        universe: number of rows.
        sizes: those of the relations.
        asked: those of them that the user named.
        lengths: tokens of sequences that the user named, where rows are sequences.
        timed: the batches that are timed; none where speed is not measured.
        digested: those at which the arms' bits are compared with each other.
    """

    universe: int
    sizes: tuple[int, ...]
    asked: tuple[int, ...]
    lengths: tuple[int, ...]
    timed: tuple[Load, ...]
    digested: tuple[int, ...]


def sweep_of(operator: OperatorInfo, selection: Selection, device: str) -> Sweep:
    """One operator's, with what the user named.

    Raises:
        UsageError: a number of rows or tokens that cannot be.
    """
    asked = _positive(selection.batch or ())
    universe = max((operator.universe[device], *asked))
    return Sweep(
        universe=universe,
        sizes=tuple(sorted({*sweep(universe), *asked})),
        asked=asked,
        lengths=_lengths(selection.length or ()) if are_sequences(operator.rows_are) else (),
        timed=_loads(operator, selection, device),
        digested=tuple(sorted({m for m in (*DIGESTED, *asked, universe) if m <= universe})),
    )


def _loads(operator: OperatorInfo, selection: Selection, device: str) -> tuple[Load, ...]:
    """The batches that are timed: every M with every length."""
    if not operator.timed[device]:
        return ()
    rows = _positive(selection.batch) if selection.batch else operator.timed[device]
    lengths: tuple[int | None, ...] = operator.lengths[device] or (None,)
    if operator.lengths[device] and selection.length:
        lengths = _lengths(selection.length)
    elif selection.quick and operator.lengths[device]:
        lengths = lengths[len(lengths) // 2 :][:1]
        rows = rows if selection.batch else tuple(dict.fromkeys((rows[0], rows[-1])))
    return tuple(Load(m=m, length=length) for m in rows for length in lengths)


def _lengths(wanted: Sequence[int]) -> tuple[int, ...]:
    wrong = [n for n in wanted if not 1 <= n <= 1 << 20]
    if wrong:
        raise UsageError(f"--length {wrong[0]}: a sequence has between 1 and {1 << 20} tokens")
    return tuple(sorted(set(wanted)))


def _positive(batch: Sequence[int]) -> tuple[int, ...]:
    wrong = [m for m in batch if not 1 <= m <= 1 << 20]
    if wrong:
        raise UsageError(f"--batch {wrong[0]}: a batch has between 1 and {1 << 20} rows")
    return tuple(sorted(set(batch)))


def has_room(case: Case, load: Load) -> bool:
    """Whether every arm can hold the keys and values of a load's sequences."""
    operator = all_operators().get(case.operator)
    if load.length is None or not isinstance(operator, Attention):
        return True
    return operator.cache_bytes(case.shape, case.precision, load.m * load.length) <= MOST_CACHE


def untimed(operators: Iterable[OperatorInfo], cases: Iterable[Case], selection: Selection) -> Iterator[str]:
    """Cases whose speed would take more time than it tells, unless they were asked for.

    Of sequences, which have so many loads, other shapes and dtypes than tell most; in a short run all shapes of an
    operator but the first. All of them where nothing is to be timed.
    """
    if selection.only == "verify":
        yield from (case.without_arm for case in cases)
        return
    chosen = {operator.name: operator for operator in operators}
    first: dict[str, Shape] = {}
    for case in cases:
        operator, shape = chosen[case.operator], case.shape
        sequences, usual = any(operator.lengths.values()), selection.shapes is None
        other_shape = usual and sequences and not {shape.label, set_name(shape)} & {*operator.timed_shapes}
        other_dtype = sequences and selection.dtype is None and str(case.precision) != operator.precisions[0]
        later = usual and selection.quick and first.setdefault(operator.name, shape) != shape
        if other_shape or other_dtype or later:
            yield case.without_arm


def seldom_timed(cases: Iterable[Case], selection: Selection, device: str) -> Iterator[str]:
    """Invented shapes on a GPU, unless they or numbers of rows were asked for: how fast they are tells little."""
    if device != "cpu" and selection.shapes is None and selection.batch is None:
        yield from (case.without_arm for case in cases if case.shape.invented and not case.shape.tokens)
