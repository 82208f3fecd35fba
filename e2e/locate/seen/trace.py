"""What was seen of one pass, on the host: of every operator and module of every step the needle's rows' digests."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from e2e.locate.seen.rows import NeedleRows, Space

Kind = Literal["operator", "module", "attention", "cache write", "compiled"]
"""What an event is; only of an operator, and of a part of a compiled model, all inputs are arguments."""

Digests = NDArray[np.int64]


class Place(NamedTuple):
    """Where in a step something happens.

    Attributes:
        path: of the module, as PyTorch names it; empty outside of all.
        operator: the operator's name; empty where the module itself is meant.
        number: how many of the same came before in the step.
    """

    path: str
    operator: str
    number: int

    @property
    def layer(self) -> int | None:
        """The layer's number, where the path has one."""
        return next((int(part) for part in self.path.split(".") if part.isdecimal()), None)

    def __str__(self) -> str:
        again = f" (call {self.number + 1})" if self.number else ""
        return f"{self.path or 'outside of all modules'}{': ' if self.operator else ''}{self.operator}{again}"


class Values(NamedTuple):
    """One tensor.

    Attributes:
        space: what its rows are.
        digests: of the needle's rows, by position; of the whole where it has none.
        shape: the tensor's.
    """

    space: Space
    digests: Digests
    shape: tuple[int, ...]


class Event(NamedTuple):
    """Something that took tensors and gave tensors.

    Attributes:
        place: where.
        kind: what.
        inputs: before it ran, without what was never written.
        outputs: after it ran, those that it wrote into among them.
        sequence: whether a row's output depends on the rows before it too, in this step and earlier ones.
        cached: digests of the sequence's own cached keys and values, by position from 0; None where none were read.
        inside: names of operators that ran inside and are no events of their own.
        scalars: what else decides an operator's result: fractions, words and switches among its arguments.
        unseen: what of it could not be seen, in words; empty where all was.
    """

    place: Place
    kind: Kind
    inputs: tuple[Values, ...]
    outputs: tuple[Values, ...]
    sequence: bool = False
    cached: Digests | None = None
    inside: tuple[str, ...] = ()
    scalars: tuple[float | bool | str, ...] = ()
    unseen: tuple[str, ...] = ()


class Step(NamedTuple):
    """One step that the needle was part of.

    Attributes:
        rows: where it stood.
        token_ids: of its rows.
        events: in the order in which they ended, so that what is inside comes before what it is in.
        counted: number of the engine's step in its pass, from 0.
    """

    rows: NeedleRows
    token_ids: tuple[int, ...]
    events: tuple[Event, ...]
    counted: int

    def kind(self, prompt: int) -> str:
        """``prefill``, ``chunk`` (a part of a prefill) or ``decode``, of a needle with so many tokens."""
        if self.rows.first >= prompt:
            return "decode"
        return "prefill" if self.rows.count >= prompt else "chunk"


def shown(path: str) -> bool:
    """Whether how far the needle is from itself alone is shown of a module: a layer, or one outside of all layers."""
    parts = path.split(".")
    return bool(path) and (parts[-1].isdecimal() or not any(part.isdecimal() for part in parts[:-1]))
