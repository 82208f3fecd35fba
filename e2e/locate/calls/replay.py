"""Run one saved call alone, with its real inputs: with the neighbours' rows taken away, and altered.

No engine is there.  The needle's rows of what comes out are compared with those of the same call on them alone; between
how many rows of the call they change is found by bisection.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from e2e.locate.calls import attention
from e2e.locate.calls.capture import TENSOR, WEIGHT, ReplayError, need_gpu
from e2e.locate.calls.launches import launched_by, marked
from e2e.locate.calls.sequences import SavedSequences, Share, with_keys, with_queries
from e2e.locate.probing.operators import name_of, tensors_in, written, written_arguments
from e2e.locate.records import Neighbour, Replayed
from e2e.locate.seen.digest import bits_of
from e2e.locate.seen.rows import NeedleRows
from e2e.locate.tensor_file import read_tensors
from profiles.run_files.record import Record


def replay(file: Path) -> Replayed:
    """Run it.

    Raises:
        ReplayError: the file holds no call, or its operator is not here, or it does not give the same bits twice.
    """
    return replayed(read_call(file))


def replayed(call: SavedCall | SavedSequences) -> Replayed:
    """Run a call that has been read.

    Raises:
        ReplayError: as `examined`.
    """
    import torch

    began = time.perf_counter()
    with torch.inference_mode():
        found = examined(call)
    return found.model_copy(update={"seconds": time.perf_counter() - began})


def examined(call: SavedCall | SavedSequences) -> Replayed:
    """What the needle's bits depend on in a call.

    Raises:
        ReplayError: it does not give the same bits twice, or not those that the needle had in the engine.
    """
    count, total = call.fewest, call.most
    alone, company = call.needle_of(count), call.needle_of(total)
    for size, once in ((count, alone), (total, company)):
        if not _equal(once, call.needle_of(size)):
            raise ReplayError(f"of {size} {call.unit} it does not give the same bits twice")
    if call.expected and not _equal(company, call.expected):
        raise ReplayError("it does not give the needle the bits that it gave in the engine")
    if _equal(alone, company):
        return Replayed(rows_alone=count, rows_company=total, unit=call.unit)
    same, other = _between(count, total, lambda size: _equal(alone, call.needle_of(size)))
    rows, elements = _apart(alone, company)
    kernels = [launched_by(partial(call.needle_of, size)) for size in (same, other)]
    return Replayed(
        rows_alone=count,
        rows_company=total,
        unit=call.unit,
        same=same,
        other=other,
        content=_equal(alone, call.needle_of(total, zeros=True)),
        neighbour=_neighbour(call, alone, other) if isinstance(call, SavedSequences) else None,
        kernels_same=kernels[0],
        kernels_other=kernels[1],
        rows_differ=rows,
        elements=elements,
    )


def _between(same: int, other: int, keeps: Callable[[int], bool]) -> tuple[int, int]:
    """Two numbers next to each other, of which the first keeps the bits and the second does not, by bisection.

    Args:
        same: a number that keeps them.
        other: a greater one that does not.
        keeps: whether a number between them does.
    """
    while other - same > 1:
        middle = (same + other) // 2
        same, other = (middle, other) if keeps(middle) else (same, middle)
    return same, other


def _neighbour(call: SavedSequences, alone: Sequence[Any], size: int) -> Neighbour:
    """What it is about the neighbour with which the bits change.

    Args:
        call: attention's.
        alone: the needle's rows as they are alone.
        size: the fewest sequences at which they are others.
    """
    whole = call.last_of(size)
    lessened: tuple[tuple[Literal["queries", "keys"], int, Callable[[Share, int], Share]], ...] = (
        ("queries", whole.queries, with_queries),
        ("keys", whole.keys, with_keys),
    )
    for unit, most, cut in lessened:

        def keeps(number: int, cut: Callable[[Share, int], Share] = cut) -> bool:
            return _equal(alone, call.needle_beside(size, cut(whole, number)))

        if most > 1 and keeps(1):
            same, other = _between(1, most, keeps)
            return Neighbour(queries=whole.queries, keys=whole.keys, unit=unit, same=same, other=other)
    return Neighbour(queries=whole.queries, keys=whole.keys)


Count = Annotated[int, Field(ge=0, lt=1 << 31)]


class SavedWords(Record):
    """What `e2e.locate.calls.capture.Captured.save` wrote of a call beside its tensors.

    Attributes:
        operator: its name.
        args: of the call; a tensor by its name.
        named: likewise.
        where: in words, the place in the engine.
        place: where the needle stands, see `e2e.locate.seen.rows.NeedleRows`.
        offset: likewise, as all of these.
        count: likewise.
        first: likewise.
        tokens: likewise.
        padded: likewise.
        sequences: likewise.
        threads: that PyTorch had.
        batch_invariant: whether vLLM's mode was on.
    """

    operator: str
    args: list[Any]
    named: dict[str, Any]
    where: str = ""
    place: Count
    offset: Count
    count: Annotated[int, Field(ge=1, lt=1 << 31)]
    first: Count
    tokens: Count
    padded: Count
    sequences: Count
    threads: Annotated[int, Field(ge=1, le=1 << 16)]
    batch_invariant: bool = False

    @model_validator(mode="after")
    def _has_the_needle(self) -> Self:
        if self.offset + self.count > self.tokens or self.place >= self.sequences:
            raise ValueError("the needle's rows are not among those of the call")
        return self


def read_call(file: Path) -> SavedCall | SavedSequences:
    """The call in a file.

    Raises:
        ReplayError: there is none, or it cannot be run here.
    """
    try:
        words, tensors = read_tensors(file)
        ready = attention.saved(words, tensors)
        if ready is None:
            if "call" not in words:
                raise ReplayError(f"{file} holds no call that was saved: it is of another kind")
            told = SavedWords.model_validate_json(words["call"])
            if lacking := sorted(_named_in([told.args, told.named]) - tensors.keys()):
                raise LookupError(", ".join(lacking))
    except ValidationError as error:
        what = error.errors()[0]
        where = ".".join(map(str, what["loc"])) or "the call"
        reason = f"{where}: {what['msg'].removeprefix('Value error, ')}"
        raise ReplayError(f"{file} holds no call that was saved: {reason}") from None
    except LookupError as error:
        raise ReplayError(f"{file} holds no call that was saved: it lacks the tensors {error}") from None
    except OSError as error:
        raise ReplayError(f"{file} holds no call that was saved: {error}") from None
    if ready is None:
        return SavedCall(told, tensors)
    try:
        return ready()
    except ImportError:
        raise ReplayError("it is attention of vLLM's, and vLLM cannot be imported") from None


class SavedCall:
    """A call and its inputs.

    Args:
        told: what `e2e.locate.calls.capture.Captured.save` wrote as JSON.
        tensors: by name.

    Attributes:
        fewest: rows of the call with the needle alone.
        most: rows of the call as it was.
        expected: the needle's rows as they came out in the engine; nothing where they were not kept.
        on_gpu: whether it ran on a GPU.

    Raises:
        ReplayError: its operator is not here.
    """

    unit: Literal["rows"] = "rows"
    expected: Sequence[Any] = ()

    def __init__(self, told: SavedWords, tensors: Mapping[str, Any]) -> None:
        import torch

        self._told = told
        self.rows = NeedleRows("", *(getattr(told, name) for name in _ROWS))
        self.fewest, self.most = self.rows.count, self.rows.tokens
        self._tensors = dict(tensors)
        self._handlers: dict[str, Any] = {}
        self._there: dict[str, Any] = {}
        self.on_gpu = '"device": "cuda"' in json.dumps([told.args, told.named])
        if self.on_gpu:
            need_gpu()
        torch.set_num_threads(int(told.threads))
        if told.batch_invariant:
            _switch_on()
        self._operator = _operator(told.operator)

    @property
    def name(self) -> str:
        """The operator's, as people call it."""
        return name_of(self._operator)

    @property
    def batch_invariant(self) -> bool:
        """Whether vLLM's mode was on."""
        return self._told.batch_invariant

    def tensors(self) -> list[Any]:
        """Every tensor of the call, in order, as it was saved."""
        return [self._tensors[one[TENSOR]] for one in _tensors_of([self._told.args, self._told.named])]

    def rows_taken(self) -> dict[str, Any]:
        """Every tensor of the call that has a row a token, as it was saved, by name.

        Raises:
            ReplayError: there is none, or one has a row a sequence, which no row of a token tells.
        """
        every = list(_tensors_of([self._told.args, self._told.named]))
        if any(one["space"] == "sequence" for one in every):
            raise ReplayError("it takes a tensor that has a row a sequence")
        if not (found := {one[TENSOR]: self._tensors[one[TENSOR]] for one in every if one["space"] == "token"}):
            raise ReplayError("it takes no tensor that has a row a token")
        return found

    def rows_written(self) -> list[str]:
        """The names of those that the operator writes into."""
        told = (
            self._told.args[at] if at < len(self._told.args) else self._told.named.get(name)
            for at, name in written_arguments(self._operator)
        )
        return [one[TENSOR] for one in _tensors_of(list(told)) if one["space"] == "token"]

    def on(self, *rows: Any) -> tuple[Any, ...]:
        """What comes out of a call on other rows: everything that has as many, what is written into first.

        Args:
            rows: in the order of `rows_taken`.
        """
        at = dict(zip(self.rows_taken(), rows, strict=True))
        args = [self._bound(one, at) for one in self._told.args]
        named = {name: self._bound(one, at) for name, one in self._told.named.items()}
        answer = self._operator(*args, **named)
        out = [*written(self._operator, args, named), *tensors_in(answer)]
        return tuple(one for one in out if one.dim() and len(one) == len(rows[0]))

    def _bound(self, value: Any, rows: Mapping[str, Any]) -> Any:
        """An argument as it was saved, with other rows; what has none lies on the device once for all calls."""
        if isinstance(value, list):
            return [self._bound(one, rows) for one in value]
        if not isinstance(value, dict) or TENSOR not in value:
            return self._made(value, {}, zeros=False)
        if value["space"] == "token":
            return rows[value[TENSOR]]
        if value[TENSOR] not in self._there:
            self._there[value[TENSOR]] = self._made(value, {}, zeros=False)
        return self._there[value[TENSOR]]

    def needle_of(self, size: int, *, zeros: bool = False) -> list[Any]:
        """The needle's rows of everything that comes out of a call of so many rows.

        Args:
            size: at least the needle's own.
            zeros: whether the neighbours' rows hold zeros.

        Raises:
            ReplayError: nothing that comes out has such rows.
        """
        pick = self._picked(size)
        own = slice(*_span(pick["token"], self.rows.offset, self.rows.count))
        place = slice(*_span(pick["sequence"], self.rows.place, 1))
        args = [self._made(one, pick, zeros) for one in self._told.args]
        named = {name: self._made(one, pick, zeros) for name, one in self._told.named.items()}
        with marked():
            answer = self._operator(*args, **named)
        out = [*written(self._operator, args, named), *tensors_in(answer)]
        found = [one[own] for one in out if one.dim() and len(one) == len(pick["token"])]
        found += [one[place] for one in out if one.dim() and len(one) == len(pick["sequence"]) != len(pick["token"])]
        if not found:
            raise ReplayError("nothing that comes out has a row a token or a sequence")
        return [one.clone() for one in found]

    def _picked(self, size: int) -> dict[str, list[int]]:
        """Which rows are left: the needle's, and the first of the others, in the order in which they stood."""
        rows = self.rows
        if rows.tokens == rows.sequences:
            own = {rows.place}
            kept = _first_others(own, rows.tokens, size)
            return {"token": kept, "sequence": kept}
        own = set(range(rows.offset, rows.offset + rows.count))
        tokens = _first_others(own, rows.tokens, size)
        share = max(1, round(rows.sequences * size / rows.tokens))
        return {"token": tokens, "sequence": _first_others({rows.place}, rows.sequences, share)}

    def _made(self, value: Any, pick: Mapping[str, Sequence[int]], zeros: bool) -> Any:
        """An argument as it was saved: of a tensor the picked rows, those that are not the needle's zeros if asked."""
        import torch

        if isinstance(value, list):
            return [self._made(one, pick, zeros) for one in value]
        if not isinstance(value, dict):
            return value
        if "dtype" in value:
            return getattr(torch, value["dtype"])
        if WEIGHT in value:
            return self._handler(value[WEIGHT])
        whole = self._tensors[value[TENSOR]]
        if value["space"] in pick:
            kept = list(pick[value["space"]])
            whole = whole[kept]
            if zeros and whole.is_floating_point():
                own = set(_needles(self.rows, value["space"]))
                for at, row in enumerate(kept):
                    if row not in own:
                        whole[at] = 0
        return whole.to(value["device"], copy=True)

    def _handler(self, name: str) -> Any:
        if name not in self._handlers:
            from vllm import _custom_ops as ops

            self._handlers[name] = ops.create_onednn_mm(self._tensors[name], 32)
        return self._handlers[name].handler_tensor


def _tensors_of(value: Any) -> Iterator[Mapping[str, Any]]:
    """What is told of each tensor of a call's arguments, in order, each once."""
    seen: set[str] = set()
    for one in _walked(value):
        if one[TENSOR] not in seen:
            seen.add(one[TENSOR])
            yield one


def _walked(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping) and TENSOR in value:
        yield value
    elif isinstance(value, Mapping | list):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _walked(one)


def _named_in(value: Any) -> set[str]:
    """The tensors that a call's arguments name."""
    if isinstance(value, list):
        return set().union(*map(_named_in, value))
    if not isinstance(value, dict):
        return set()
    own = {str(value[name]) for name in (TENSOR, WEIGHT) if isinstance(value.get(name), str)}
    return own.union(*map(_named_in, value.values()))


_ROWS = ("place", "offset", "count", "first", "tokens", "padded", "sequences")


def _needles(rows: NeedleRows, space: str) -> range:
    return range(rows.offset, rows.offset + rows.count) if space == "token" else range(rows.place, rows.place + 1)


def _first_others(own: set[int], total: int, size: int) -> list[int]:
    others = [row for row in range(total) if row not in own][: max(0, size - len(own))]
    return sorted(own | set(others))


def _span(kept: Sequence[int], first: int, count: int) -> tuple[int, int]:
    at = list(kept).index(first)
    return at, at + count


def _switch_on() -> None:
    """Have vLLM's and PyTorch's operators be what they were in an engine with VLLM_BATCH_INVARIANT=1.

    Raises:
        ReplayError: the installed vLLM has no such mode.
    """
    os.environ["VLLM_BATCH_INVARIANT"] = "1"  # before anything of vLLM's is imported
    from kernels_bench.arms.base import Unsupported
    from kernels_bench.arms.vllm.batch_invariant import switch_on

    try:
        switch_on()
    except (Unsupported, ImportError) as error:
        raise ReplayError(f"it ran with VLLM_BATCH_INVARIANT=1: {error}") from None


def _operator(name: str) -> Any:
    """PyTorch's operator of that name; vLLM registers its own when it is imported.

    Raises:
        ReplayError: there is none.
    """
    import torch

    space, _, rest = name.partition("::")
    base, _, overload = rest.partition(".")
    if space != "aten":
        import importlib

        for module in ("vllm._custom_ops", "vllm.platforms"):
            try:
                loaded = importlib.import_module(module)
            except ImportError:
                raise ReplayError(f"{name} is vLLM's, and vLLM cannot be imported") from None
        loaded.current_platform.import_kernels()
    try:
        return getattr(getattr(getattr(torch.ops, space), base), overload or "default")
    except AttributeError:
        raise ReplayError(f"there is no operator {name} here") from None


def _equal(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return all(bool((bits_of(a) == bits_of(b)).all()) for a, b in zip(one, other, strict=True))


def _apart(one: Sequence[Any], other: Sequence[Any]) -> tuple[int, int]:
    """How many rows differ, and how many elements."""
    rows = elements = 0
    for a, b in zip(one, other, strict=True):
        differ = (bits_of(a) != bits_of(b)).reshape(len(a), -1, max(1, a.element_size() // 2)).any(2)
        rows, elements = max(rows, int(differ.any(1).sum())), elements + int(differ.sum())
    return rows, elements
