"""Put the equal output back and go on: a pass whose rows are those of the pass alone wherever nothing justified others.

What a call gave alone is kept, the needle's rows only.  In company, where a row's inputs are the same and its output is
not, the row alone takes its place; so everything after it is judged as if that call were invariant, and the causes that
are left are independent ones.  It is decided on the device, by digests; nothing waits for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from e2e.locate.calls.attention import captured
from e2e.locate.calls.capture import Captured, NotSavedError
from e2e.locate.calls.sequences import CapturedSequences
from e2e.locate.judging.apart import Apart, apart_of, same_apart
from e2e.locate.probing.record import CachedRows, Call, EndedStep, Held, Recorder, unseen
from e2e.locate.seen.digest import raw_rows
from e2e.locate.seen.rows import NeedleRows
from e2e.locate.seen.trace import Place, shown


class Kept(NamedTuple):
    """What a call took and gave alone.

    Attributes:
        rows: of the step.
        call: with digests of its inputs.
        outputs: the needle's rows of each tensor that came out; None of those that have none.
        blocks: raw bits of the sequence's cached keys and values, where the call writes them.
    """

    rows: NeedleRows
    call: Call
    outputs: tuple[Any, ...]
    blocks: Any


class Keeper(Recorder):
    """Records a pass alone, and keeps what came out of every call, as long as there is room.

    Args:
        room: bytes that may be kept.
        modules_only: whether only of modules is kept what came out.

    Attributes:
        full: whether there was no room for all.
    """

    def __init__(self, room: int, *, modules_only: bool = False) -> None:
        super().__init__()
        self._room, self._modules_only = room, modules_only
        self.kept: dict[Place, list[Kept]] = defaultdict(list)
        self.full = False

    def leave(self, call: Call, outputs: Sequence[Any]) -> None:
        """Keep what it gave."""
        super().leave(call, outputs)
        assert self.rows is not None
        if self._modules_only and call.kind != "module":
            return
        with unseen():
            rows = tuple(_rows_of(one, self) for one in outputs)
            blocks = call.cache.layout.blocks(call.cache.cache, call.cache.blocks) if call.cache is not None else None
            size = sum(one.numel() * one.element_size() for one in (*rows, blocks) if one is not None)
            self._room -= size
            if self._room < 0:
                self.full = True
                return
            own = tuple(one.clone() if one is not None else None for one in rows)
        self.kept[call.place].append(Kept(self.rows, call, own, blocks))

    def left_empty(self, call: Call, outputs: Sequence[Any], places: Collection[int]) -> None:
        """Keep no such memory either."""
        super().left_empty(call, outputs, places)
        if self.kept[call.place] and self.kept[call.place][-1].call is call:
            kept = self.kept[call.place].pop()
            written = tuple(one for at, one in enumerate(kept.outputs) if at not in places)
            self.kept[call.place].append(kept._replace(outputs=written))


class Comparer(Recorder):
    """Records a pass in company, and how far its rows are from those alone.

    Args:
        kept: of the pass alone.
        unlike: modules in which the passes call other operators, which are not compared one by one.
        put: whether rows alone take the places of those that nothing justified.
        wanted: the step and the place of the operator whose call is to be captured, if any.
        weights: see `e2e.locate.calls.capture.Captured`.
        far: whether distances are wanted too, see `Apart`.

    Attributes:
        apart: by step and place, how far the needle's rows were from those alone before anything was put in place.
        captured: the call that was wanted, or why it cannot be saved.
    """

    def __init__(
        self,
        kept: dict[Place, list[Kept]],
        unlike: Collection[str] = (),
        *,
        put: bool = False,
        wanted: tuple[int, Place] | None = None,
        weights: Mapping[int, Any] | None = None,
        far: bool = False,
    ) -> None:
        super().__init__()
        self._far = far
        self._kept, self._unlike, self._put = kept, frozenset(unlike), put
        self._wanted, self._weights = wanted, weights or {}
        self.captured: Captured | CapturedSequences | str | None = None
        self._intact: dict[tuple[str, str], Any] = {}
        self._waiting: dict[tuple[str, str], list[tuple[Call, Kept]]] = defaultdict(list)
        self._steps = 0
        self.apart: dict[tuple[int, Place], list[Apart]] = {}

    def finish(self, counted: int) -> EndedStep:
        """The step has ended."""
        with unseen():
            self._settle()
            for key in list(self._waiting):
                self._catch_up(key)
        self._steps += 1
        return super().finish(counted)

    def enter(self, call: Call, operator: Any, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        """Capture it, if it is the one that is wanted."""
        if self._wanted == (self._steps, call.place) and self.rows is not None:
            with unseen():
                try:
                    self.captured = Captured(operator, args, named, self.rows, self._weights)
                except NotSavedError as error:
                    self.captured = str(error)

    def attended(self, call: Call, impl: Any, args: Mapping[str, Any]) -> None:
        """Capture it, if it is the one that is wanted."""
        if self._wanted == (self._steps, call.place) and self.rows is not None:
            with unseen():
                try:
                    self.captured = captured(impl, args, self.rows)
                except NotSavedError as error:
                    self.captured = str(error)

    def leave(self, call: Call, outputs: Sequence[Any]) -> None:
        """Compare it with what it gave alone, and put that in its place where that is wanted."""
        super().leave(call, outputs)
        assert self.rows is not None
        if call.kind == "operator" and call.place.path in self._unlike:
            return
        kept = [one for one in self._kept.get(call.place, ()) if _covers(one.rows, self.rows)]
        if len(kept) != 1 or not _alike(call, kept[0].call):
            return
        with unseen():
            self._compare(call, outputs, kept[0])

    def _compare(self, call: Call, outputs: Sequence[Any], kept: Kept) -> None:
        """Note how far a call's outputs are from the kept ones; where inputs are equal, put the kept rows in place."""
        assert self.rows is not None
        told = call.kind == "module" and shown(call.place.path)
        if self.device == "cpu" and self._came_out_equal(call, outputs, kept):
            # Nothing is to be put right; a GPU would have to be waited for to tell.
            if call.sequence:
                self._waiting[_key(call)].append((call, kept))
            if told:
                rows = (own for one in outputs if (own := _rows_of(one, self)) is not None)
                self.apart.setdefault((self._steps, call.place), []).extend(same_apart(own, self._far) for own in rows)
            return
        equal = self._inputs_equal(call, kept)
        if self.device == "cpu" and not told and not equal.any():
            return  # a consequence in every row: nothing is to be put right, and how far it is apart nobody asks
        for mine, theirs in zip(outputs, kept.outputs, strict=True):
            own = _rows_of(mine, self)
            if own is None or theirs is None:
                continue
            space = self.rows.space(tuple(mine.shape))
            wanted = theirs[_part(kept.rows, self.rows)] if space == "token" else theirs
            flags = equal if space == "token" else equal[-1:]
            if own.shape != wanted.shape:
                continue
            apart = apart_of(own, wanted, far=self._far)
            self.apart.setdefault((self._steps, call.place), []).append(apart)
            if self._put and not apart.same:
                shape = (-1,) + (1,) * (own.dim() - 1)
                own.copy_(own.where(~flags.reshape(shape), wanted))
        if self._put and call.cache is not None and kept.blocks is not None:
            self._put_cached(call.cache, kept, equal)

    def _came_out_equal(self, call: Call, outputs: Sequence[Any], kept: Kept) -> bool:
        """Whether all of the needle's rows that came out are those that it had alone."""
        assert self.rows is not None
        part = _part(kept.rows, self.rows)
        if call.cache is not None:
            pairs = zip(call.outputs, kept.call.outputs, strict=True)
            return all(bool(_same(mine, theirs, part).all()) for mine, theirs in pairs)
        for mine, theirs in zip(outputs, kept.outputs, strict=True):
            own = _rows_of(mine, self)
            if own is None or theirs is None:
                continue
            wanted = theirs[part] if self.rows.space(tuple(mine.shape)) == "token" else theirs
            if own.shape != wanted.shape or raw_rows(own) != raw_rows(wanted):
                return False
        return True

    def _inputs_equal(self, call: Call, kept: Kept) -> Any:
        """By row, on the device, whether all that it depends on was the same."""
        import torch

        assert self.rows is not None
        part = _part(kept.rows, self.rows)
        equal = torch.ones(self.rows.count, dtype=torch.bool, device=self.device)
        for mine, theirs in zip(call.inputs, kept.call.inputs, strict=True):
            equal &= _same(mine, theirs, part)
        if call.cached is not None and kept.call.cached is not None:
            same = _equal(call.cached.digests, kept.call.cached.digests[: len(call.cached.digests)])
            equal &= same.cumprod(0)[self.rows.first :].bool()
        if call.sequence:
            key = _key(call)
            self._catch_up(key)
            before = self._intact.get(key)
            now = equal.cumprod(0).bool()
            self._intact[key] = now[-1] if before is None else before & now[-1]
            equal = now if before is None else now & before
        return equal

    def _catch_up(self, key: tuple[str, str]) -> None:
        """Ask of calls with state whose outputs were those alone whether their inputs were: later calls rest on it."""
        for call, kept in self._waiting.pop(key, ()):
            self._inputs_equal(call, kept)

    def _put_cached(self, cache: CachedRows, kept: Kept, equal: Any) -> None:
        import torch

        assert self.rows is not None
        where = torch.zeros(len(cache.blocks) * cache.layout.slots, dtype=torch.bool, device=equal.device)
        where[self.rows.first : self.rows.last + 1] = equal
        cache.layout.put(cache.cache, cache.blocks, kept.blocks[: len(cache.blocks)], where)


def _key(call: Call) -> tuple[str, str]:
    """What a call's state is known by."""
    return call.place.path, call.place.operator


def _rows_of(tensor: Any, recorder: Recorder) -> Any:
    """The needle's rows of a tensor, a view; None where it has none."""
    assert recorder.rows is not None
    if not recorder.concerns(tensor):
        return None
    space = recorder.rows.space(tuple(tensor.shape))
    return None if space == "whole" else tensor[recorder.rows.slice_of(space)]


def _covers(alone: NeedleRows, company: NeedleRows) -> bool:
    """Whether a step alone computed all positions that one in company does."""
    return alone.first <= company.first and company.last <= alone.last


def _part(alone: NeedleRows, company: NeedleRows) -> slice:
    """Which rows of the step alone are those of the step in company."""
    return slice(company.first - alone.first, company.last + 1 - alone.first)


def _alike(call: Call, other: Call) -> bool:
    """Whether the two took and gave tensors of the same kinds, and the same numbers."""
    return call.scalars == other.scalars and all(
        [(held.space, held.shape[1:] if held.space != "whole" else ()) for held in mine]
        == [(held.space, held.shape[1:] if held.space != "whole" else ()) for held in theirs]
        for mine, theirs in ((call.inputs, other.inputs), (call.outputs, other.outputs))
    )


def _same(mine: Held, theirs: Held, part: slice) -> Any:
    """By row, or for all rows at once, whether two tensors have the same bits; on the device."""
    import torch

    if mine.digests is None or theirs.digests is None:
        return torch.tensor(False)
    if mine.space == "token":
        return _equal(mine.digests, theirs.digests[part])
    return _equal(mine.digests, theirs.digests).all()


def _equal(mine: Any, theirs: Any) -> Any:
    import torch

    return torch.as_tensor(mine == theirs)
