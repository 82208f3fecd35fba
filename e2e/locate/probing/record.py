"""What was seen while a step ran, on the device; a `trace.Step` of it once the step has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from e2e.locate.seen.digest import RawRows, digests_of, raw_rows
from e2e.locate.seen.rows import NeedleRows, Space
from e2e.locate.seen.trace import Event, Kind, Place, Step, Values

_WHOLE = 1 << 24
"""Elements of the largest tensor without rows that is compared as it is."""
_STAGED = 1 << 26
"""Bytes of rows that are copied before they are digested."""


class Held:
    """A tensor as it was at one moment.

    Args:
        space: what its rows are.
        shape: its shape.
        digests: of the needle's rows, or of the whole; int64; None where they are not known yet, or never.
        raw: the rows themselves, where they are still to be digested.
    """

    __slots__ = ("_digests", "raw", "shape", "space")

    def __init__(self, space: Space, shape: tuple[int, ...], digests: Any = None, raw: RawRows | None = None) -> None:
        self.space, self.shape, self._digests, self.raw = space, shape, digests, raw

    @property
    def digests(self) -> Any:
        """Of the needle's rows, or of the whole; in main memory an array of numpy's, else on the device; or None."""
        if self._digests is None and self.raw is not None:
            with unseen():
                (self._digests,) = digests_of([self.raw])
        return self._digests

    @property
    def due(self) -> bool:
        """Whether the digests are still to be computed."""
        return self._digests is None and self.raw is not None

    def settle(self, digests: Any = None) -> None:
        """Only the digests are kept from here on.

        Args:
            digests: they, where they were due.
        """
        self._digests, self.raw = self._digests if digests is None else digests, None


class CachedRows(NamedTuple):
    """A sequence's cached keys and values.

    Attributes:
        layout: how the cache is laid out.
        cache: the layer's.
        blocks: the sequence's blocks, int64, on the device.
    """

    layout: Any
    cache: Any
    blocks: Any

    def rows(self, first: int, end: int) -> RawRows:
        """What is cached of some positions."""
        found: RawRows = self.layout.rows(self.cache, self.blocks, first, end)
        return found


@dataclass(slots=True)
class Call:
    """Something that runs.

    Attributes:
        place: where.
        kind: what.
        inputs: before it ran.
        sequence: see `e2e.locate.seen.trace.Event`.
        cached: the sequence's cached keys and values.
        cache: where it writes keys and values, if it does.
        outputs: after it ran.
        inside: names of operators that ran inside and are no events of their own.
        scalars: what else decides an operator's result.
        unseen: what could not be seen.
    """

    place: Place
    kind: Kind
    inputs: list[Held]
    sequence: bool = False
    cached: Held | None = None
    cache: CachedRows | None = None
    outputs: list[Held] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    scalars: tuple[float | bool | str, ...] = ()
    unseen: list[str] = field(default_factory=list)


class EndedStep(NamedTuple):
    """A step that has ended, whose digests are still where they were computed.

    Attributes:
        rows: where the needle stood in it.
        calls: all that was seen.
        counted: see `e2e.locate.seen.trace.Step`.
    """

    rows: NeedleRows
    calls: Sequence[Call]
    counted: int


class Recorder:
    """Takes down what the needle's rows are before and after each call of a step; changes nothing.

    Rows are copied as they are met, and digested together: a copy takes less time than a digest of a few rows, and
    what is found as it was last seen, to the bit, needs neither.

    Attributes:
        shared: addresses of memory that belongs to no batch: weights, buffers, caches.
        device: the kind of device that the engine computes on.
        rows: where the needle stands in the step that runs; None where it is in none.
    """

    def __init__(self) -> None:
        self.shared: frozenset[int] = frozenset()
        self.device = "cpu"
        self.rows: NeedleRows | None = None
        self._calls: list[Call] = []
        self._numbers: Counter[tuple[str, str]] = Counter()
        self._fresh: dict[int, Held] = {}
        self._last: dict[int, Held] = {}
        self._staged: list[Held] = []
        self._bytes = 0

    def begin(self, rows: NeedleRows) -> None:
        """A step begins that the needle is part of."""
        self.rows = rows
        self._calls, self._numbers, self._fresh = [], Counter(), {}

    def place(self, path: str, operator: str) -> Place:
        """The next place of this name in the step."""
        number = self._numbers[path, operator]
        self._numbers[path, operator] += 1
        return Place(path, operator, number)

    def held(self, tensors: Iterable[Any]) -> list[Held]:
        """Tensors as they are now, without weights, buffers and caches, and without what was never written."""
        with unseen():
            return [held for one in tensors if (held := self._hold(one)) is not None]

    def enter(self, call: Call, operator: Any, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        """An operator is about to run."""

    def attended(self, call: Call, impl: Any, args: Mapping[str, Any]) -> None:
        """Attention has run; its arguments by name."""

    def leave(self, call: Call, outputs: Sequence[Any]) -> None:
        """It has run, and these are the tensors that it gave or wrote into."""
        call.outputs = self._outputs(call, outputs)
        self._calls.append(call)

    def left_empty(self, call: Call, outputs: Sequence[Any], places: Collection[int]) -> None:
        """Some of what a call gave turn out to be memory that nothing had written: none of its outputs.

        Args:
            call: it.
            outputs: all that it gave.
            places: which of these they are.
        """
        concerned = [at for at, one in enumerate(outputs) if self.concerns(one)]
        call.outputs = [held for at, held in zip(concerned, call.outputs, strict=True) if at not in places]

    def _outputs(self, call: Call, outputs: Sequence[Any]) -> list[Held]:
        assert self.rows is not None
        held = self.held(outputs)
        if call.cache is not None:
            held.append(self.cached(call.cache, self.rows.first))
        return held

    def cached(self, cache: CachedRows, first: int = 0) -> Held:
        """What is cached of the needle's positions, from one on."""
        assert self.rows is not None
        with unseen():
            raw = cache.rows(first, self.rows.last + 1)
            return self._stage(Held("token", tuple(cache.cache.shape), None, raw), raw)

    def made_empty(self, tensors: Iterable[Any]) -> None:
        """Memory was made that nothing has written yet."""
        for one in tensors:
            with unseen():
                held = self._hold(one)
            if held is not None:
                self._fresh[one.untyped_storage().data_ptr()] = held

    @property
    def anything_empty(self) -> bool:
        """Whether there is memory that nothing has written yet."""
        return bool(self._fresh)

    def is_empty(self, tensor: Any) -> bool:
        """Whether nothing that was seen has written a tensor's memory since it was made."""
        return tensor.untyped_storage().data_ptr() in self._fresh

    def wrote(self, tensors: Iterable[Any]) -> None:
        """Something has written these, or made them."""
        for one in tensors:
            self._fresh.pop(one.untyped_storage().data_ptr(), None)

    def looked_away(self) -> None:
        """Operators have run, or will, that nobody is told of: any of them may write what was empty."""
        self._fresh = {}

    def finish(self, counted: int) -> EndedStep:
        """The step has ended; nothing waits for what the device still has to do."""
        assert self.rows is not None
        self._settle()
        ended = EndedStep(self.rows, self._calls, counted)
        self.rows, self._calls, self._fresh = None, [], {}
        return ended

    def _settle(self) -> None:
        """Digest what was copied, and keep no copies."""
        due = [one for one in self._staged if one.due]
        with unseen():
            digests = digests_of([one.raw for one in due if one.raw is not None])
        for one, own in zip(due, digests, strict=True):
            one.settle(own)
        for one in self._staged:
            one.settle()
        self._staged, self._last, self._bytes = [], {}, 0

    def concerns(self, tensor: Any) -> bool:
        """Whether a tensor may hold something of the batch.

        Beside a GPU, what lies in main memory is bookkeeping; and a copy that the GPU makes there may be under way.
        """
        here: bool = tensor.device.type == self.device or (tensor.dim() == 0 and tensor.device.type == "cpu")
        return here and tensor.numel() > 0 and tensor.untyped_storage().data_ptr() not in self.shared

    def _hold(self, tensor: Any) -> Held | None:
        """What is kept of a tensor: its rows' digests; None where it does not concern the needle."""
        assert self.rows is not None
        if not self.concerns(tensor):
            return None
        shape = tuple(tensor.shape)
        space = self.rows.space(shape)
        if space == "whole":
            # Compared where it is small; a large one differs from everything, so that nothing is concluded from it.
            small = tensor.numel() <= _WHOLE and not tensor.is_sparse
            return self._copy(tensor, space, shape, tensor.reshape(1, -1)) if small else Held(space, ())
        held = self._copy(tensor, space, shape, tensor[self.rows.slice_of(space)])
        made = self._fresh.get(tensor.untyped_storage().data_ptr()) if self._fresh else None
        if made is not None and made.space == space:
            now, then = held.digests, made.digests
            return Held(space, shape, now * (now != then))  # what nothing has written is no input
        return held

    def _copy(self, tensor: Any, space: Space, shape: tuple[int, ...], rows: Any) -> Held:
        """A copy of rows; in main memory the last one of what lay there, where that is the same to the bit."""
        if space == "whole" and tensor.device.type != self.device:
            rows = rows.to(self.device)
        raw = raw_rows(rows)
        if self.device == "cpu":
            last = self._last.get(tensor.data_ptr())
            if last is not None and last.shape == shape and last.raw == raw:
                return last
        held = self._stage(Held(space, shape, None, raw), raw)
        self._last[tensor.data_ptr()] = held
        return held

    def _stage(self, held: Held, raw: RawRows) -> Held:
        self._staged.append(held)
        self._bytes += len(raw.bits) if isinstance(raw.bits, bytes) else raw.bits.nbytes
        if self._bytes > _STAGED:
            self._settle()
        return held


def unseen() -> AbstractContextManager[None]:
    """What is computed in this context is nobody's to see: no dispatch mode is told of it."""
    import torch

    guard: AbstractContextManager[None] = torch._C._DisableTorchDispatch()
    return guard


def steps_on_host(ended: Sequence[EndedStep], token_ids: Sequence[tuple[int, ...]]) -> list[Step]:
    """Steps with all their digests in main memory, in one copy: it waits for all that the device still has to do.

    Args:
        ended: they.
        token_ids: of the needle's rows in each.
    """
    events = _on_host([call for step in ended for call in step.calls])
    each = zip(ended, token_ids, strict=True)
    return [Step(one.rows, ids, tuple(islice(events, len(one.calls))), one.counted) for one, ids in each]


def _on_host(calls: Sequence[Call]) -> Iterator[Event]:
    every = [held for call in calls for held in (*call.inputs, *call.outputs, call.cached)]
    host = copied_to_host([None if held is None else held.digests for held in every])
    none = np.zeros(0, np.int64)

    def of(held: Sequence[Held]) -> tuple[Values, ...]:
        return tuple(Values(one.space, none if (own := next(host)) is None else own, one.shape) for one in held)

    for call in calls:
        inputs, outputs = of(call.inputs), of(call.outputs)
        inside, unseen = tuple(call.inside), tuple(call.unseen)
        yield Event(call.place, call.kind, inputs, outputs, call.sequence, next(host), inside, call.scalars, unseen)


def copied_to_host(parts: Sequence[Any]) -> Iterator[Any]:
    """Arrays as they are, and what is on a device, of whole numbers, copied from it at once; None stays None."""
    import torch

    there = [one for one in parts if isinstance(one, torch.Tensor)]
    if not there:
        return iter(parts)
    whole = torch.cat(there).cpu().numpy()
    ends = np.cumsum([len(one) for one in there]).tolist()
    own = iter([whole[end - len(one) : end] for one, end in zip(there, ends, strict=True)])
    return iter([next(own) if isinstance(one, torch.Tensor) else one for one in parts])
