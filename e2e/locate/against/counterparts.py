"""Which of transformers' values is which of vLLM's: by the modules' names, and by following vLLM's own values.

A value that a module of both gives is one value, and so is one that a module of both takes.  What vLLM fuses is put
together: modules that are several in the checkpoint, a norm with the addition before it, an activation with its
product.  A value of vLLM's is known again by its bits wherever it is passed on.  What has no counterpart is not judged.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from e2e.locate.against.hugging_face import ATTENTION, Forward, Role
from e2e.locate.judging.apart import Apart, apart_of, on_host
from e2e.locate.judging.kept_pass import KeptPass
from e2e.locate.seen.digest import row_digests
from e2e.locate.seen.trace import Event, Place, Step, Values

NAMES = {"logits_processor": "lm_head"}
"""Modules that are called otherwise in transformers."""

Key = tuple[int, bytes]
Roles = tuple[Role, ...]


class Links(NamedTuple):
    """What a module's name says of the tensors that it takes and gives: their roles in transformers, side by side.

    Of a tensor of which it says nothing there are none.
    """

    taken: tuple[Roles, ...]
    given: tuple[Roles, ...]


@dataclass
class Known:
    """What is known of a step's values, each by its bits: its roles in transformers, and vLLM's rows."""

    roles: dict[Key, Roles] = field(default_factory=dict)
    rows: dict[Key, Any] = field(default_factory=dict)


class Counterparts:
    """Transformers' pass in vLLM's terms.

    Args:
        own: vLLM's pass.
        forward: of transformers, over the same tokens.
        put: roles whose values were vLLM's as soon as transformers' own had been seen.

    Attributes:
        steps: for each of vLLM's the same with transformers' values, of the modules that have a counterpart.
        apart: by step and place, how far the two are apart.
        lacking: modules without a counterpart, by path.
    """

    def __init__(self, own: KeptPass, forward: Forward, put: Collection[Role] = ()) -> None:
        self._packed, self._forward, self._put = own.words.packed, forward, frozenset(put)
        self.apart: dict[tuple[int, Place], list[Apart]] = {}
        self.lacking: dict[str, None] = {}
        self._of_role: dict[Role, dict[int, Any]] = {}
        self.steps = tuple(
            self._step(at, step, rows) for at, (step, rows) in enumerate(zip(own.steps, own.rows, strict=True))
        )
        self.apart = on_host(self.apart)

    def rows_to_put(self) -> dict[Role, Any]:
        """By role, vLLM's rows of all positions, of shape (positions, width).

        Roles whose values transformers has in the same bits are one tensor of it, such as what a layer gives and what
        the next one takes.  Values of another dtype would have everything after them computed in it, and are not put.
        """
        import torch

        count, own = len(self._forward.logits), self._forward.values
        whole = {
            role: rows
            for role, rows in self._of_role.items()
            if len(rows) == count and rows[0].dtype == own[role].dtype
        }
        found = {role: torch.stack([rows[at] for at in range(count)]) for role, rows in whole.items()}
        same = {_bits(own[role]): role for role in found}
        for role, value in own.items():
            if role not in found and (like := same.get(_bits(value))) is not None:
                found[role] = found[like]
        return found

    def _step(self, at: int, step: Step, rows: Mapping[int, Sequence[Any]]) -> Step:
        """Transformers' side of one step of vLLM's."""
        known = Known()
        modules = {n: one for n, one in enumerate(step.events) if one.kind == "module" and not one.place.number}
        links = {number: self._links(event) for number, event in modules.items()}
        for number, event in modules.items():
            for value, own in zip(with_rows(event.outputs), _tensors(event, rows.get(number)), strict=True):
                if own is not None:
                    known.rows.setdefault(_key(value), own.reshape(len(own), -1))
            self._learn(event, links[number], known)
        for key, roles in known.roles.items():
            own = known.rows.get(key)
            if len(roles) == 1 and own is not None:
                first = step.rows.last + 1 - len(own)
                self._of_role.setdefault(roles[0], {}).update({first + n: row for n, row in enumerate(own)})
        events = []
        for number, event in modules.items():
            found = self._event(at, step, event, links[number], known)
            if found is None:
                self.lacking[event.place.path] = None
            else:
                events.append(found)
        return step._replace(events=tuple(events))

    def _learn(self, event: Event, links: Links, known: Known) -> None:
        """Note the roles of an event's tensors, and of the parts of one that is several side by side."""
        pairs = zip((*with_rows(event.outputs), *with_rows(event.inputs)), (*links.given, *links.taken), strict=True)
        for value, roles in pairs:
            key = _key(value)
            if not roles:
                continue
            known.roles.setdefault(key, roles)
            own, start = known.rows.get(key), 0
            if len(roles) == 1 or own is None:
                continue
            for role in roles:
                width = self._forward.values[role].shape[1]
                part = own[:, start : start + width].contiguous()
                start += width
                columns = width, row_digests(part).numpy().tobytes()
                known.roles.setdefault(columns, (role,))
                known.rows.setdefault(columns, part)

    def _event(self, at: int, step: Step, event: Event, links: Links, known: Known) -> Event | None:
        """The same module in transformers; None where a tensor of it has no counterpart."""
        taken = _beside(event.inputs, links.taken)
        given = _beside(event.outputs, links.given)
        if not given or any(len(v.shape) < 2 or v.space == "whole" for v, _ in given):
            return None
        outputs, apart = [], []
        for value, roles in given:
            theirs = self._theirs(step, value, roles or known.roles.get(_key(value), ()))
            own = known.rows.get(_key(value))
            if theirs is None or (own is not None and own.dtype != theirs.dtype):
                return None
            if not roles and self._all_put(known.roles[_key(value)]):
                outputs.append(value)  # what is inside gave it, and it was put right there
                continue
            outputs.append(value._replace(digests=row_digests(theirs).numpy()))
            if own is not None:
                there = self._forward.device
                apart.append(apart_of(own.to(there), theirs.to(there), far=True))
        inputs = []
        for value, roles in taken:
            if len(value.shape) == 1 and value.space != "whole":
                inputs.append(value)  # positions and token ids: both were given the same
                continue
            ours = roles or known.roles.get(_key(value), ())
            was_put = all(one in self._put for one in ours) if roles else self._all_put(ours)
            theirs = self._theirs(step, value, ours)
            if theirs is None:
                return None
            inputs.append(value if was_put else value._replace(digests=row_digests(theirs).numpy()))
        self.apart[at, event.place] = apart
        return event._replace(inputs=tuple(inputs), outputs=tuple(outputs))

    def _all_put(self, roles: Roles) -> bool:
        """Whether vLLM's values took the place of transformers' where they are made, for everyone who takes them."""
        return all(one in self._put and one.what in ("out", "attended") for one in roles)

    def _theirs(self, step: Step, value: Values, roles: Roles) -> Any:
        """Transformers' rows of the step's positions; None where there are none."""
        import torch

        if not roles or value.space == "whole":
            return None
        positions = step.rows.positions(value.space)
        parts = [self._forward.values[one][positions.start : positions.stop] for one in roles]
        whole = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        return whole.contiguous() if len(whole) == len(positions) else None

    def _links(self, event: Event) -> Links:
        """What a module's name says of its tensors."""
        path = NAMES.get(event.place.path, event.place.path)
        parent, _, last = path.rpartition(".")
        taken, given = (tuple(map(_width, with_rows(one))) for one in (event.inputs, event.outputs))
        inside: Roles = (Role(path, "in"),)
        out: Roles = (Role(path, "out"),)
        if last in self._packed:
            names = [f"{parent}.{part}" for part in self._packed[last]]
            inside, out = (Role(names[0], "in"),), tuple(Role(one, "out") for one in names)
        attention = tuple((Role(parent, what),) for what in ATTENTION)
        attended = ((Role(parent, "attended"),),)
        if (self._widths(attention), self._widths(attended)) == (taken, given):
            return Links(attention, attended)
        if len(given) == 1 and len(taken) <= 1 and self._widths((inside, out)[1 - len(taken) :]) == (*taken, *given):
            return Links((inside,) * len(taken), (out,))
        pair = len(taken) == len(given) == 2 and path in self._forward.leaves
        if pair and self._widths((inside, inside, out, inside)) == (*taken, *given):
            return Links(((), ()), (out, inside))  # a norm that adds before it: in transformers it takes the sum
        return Links(((),) * len(taken), ((),) * len(given))

    def _widths(self, values: Sequence[Roles]) -> tuple[int, ...]:
        """Of each its columns, -1 where it is not there."""
        seen = self._forward.values
        return tuple(
            sum(int(seen[one].shape[1]) for one in roles) if all(one in seen for one in roles) else -1
            for roles in values
        )


def with_rows(values: Sequence[Values]) -> list[Values]:
    """Those that have rows of more than one number: not positions, nor token ids."""
    return [one for one in values if one.space != "whole" and len(one.shape) > 1]


def _beside(values: Sequence[Values], roles: Sequence[Roles]) -> list[tuple[Values, Roles]]:
    """All values of an event, each with what is known of it by name."""
    left = iter(roles)
    return [(one, next(left) if one.space != "whole" and len(one.shape) > 1 else ()) for one in values]


def _tensors(event: Event, raw: Sequence[Any] | None) -> list[Any]:
    """The rows of those outputs that have some; None of each where they were not kept."""
    wanted = [one.space != "whole" for one in event.outputs]
    own = [one for one in raw or () if one is not None]
    if len(own) != sum(wanted):
        own = [None] * sum(wanted)
    left = iter(own)
    paired = [(value, next(left) if value.space != "whole" else None) for value in event.outputs]
    return [rows for value, rows in paired if value.space != "whole" and len(value.shape) > 1]


def _width(value: Values) -> int:
    return prod(value.shape[1:])


def _key(value: Values) -> Key:
    return _width(value), value.digests.tobytes()


def _bits(rows: Any) -> Key:
    return int(rows.shape[1]), row_digests(rows).numpy().tobytes()
