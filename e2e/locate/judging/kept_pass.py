"""A pass of one engine as a safetensors file, for another process that looks into another engine of the same model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from e2e.locate.judging.graft import Kept
from e2e.locate.probing.record import Call, Held
from e2e.locate.seen.rows import NeedleRows, Space
from e2e.locate.seen.trace import Event, Kind, Place, Step, Values
from e2e.locate.tensor_file import read_tensors, write_tensors
from e2e.workload.options import ArmName, Options
from profiles.run_files.record import Record

Count = Annotated[int, Field(ge=0)]
_DIGESTS = "digests"


class KeptValues(Record):
    """One tensor of an event; see `e2e.locate.seen.trace.Values`.

    Attributes:
        space: what its rows are.
        shape: the tensor's.
        digests: how many it has; they lie one after another in the file.
    """

    space: Space
    shape: tuple[int, ...]
    digests: Count


class KeptEvent(Record):
    """See `e2e.locate.seen.trace.Event`, whose fields these are, of a place its three.

    Attributes:
        rows: names of the needle's rows in the file, of every tensor that came out; empty where they were not kept.
    """

    path: str
    operator: str
    number: Count
    kind: Kind
    inputs: tuple[KeptValues, ...]
    outputs: tuple[KeptValues, ...]
    sequence: bool
    inside: tuple[str, ...]
    scalars: tuple[bool | float | str, ...]
    unseen: tuple[str, ...]
    rows: tuple[str, ...] = ()


class KeptStep(Record):
    """See `e2e.locate.seen.trace.Step`; ``rows`` is a `NeedleRows` by field."""

    rows: dict[str, int | str]
    token_ids: tuple[int, ...]
    counted: Count
    events: tuple[KeptEvent, ...]


class PassWords(Record):
    """What is known of a pass beside its tensors.

    Attributes:
        arm: the engine's.
        options: what it was given.
        provenance: of the engine.
        needle: its number.
        prompt: its token ids.
        tokens: of its answer.
        logprobs: of each of these, fp32.
        packed: of a module that is several in the checkpoint the names of these, as vLLM's model class says.
        full: whether there was no room for all rows.
        alone_repeats: whether a second pass gave the same bits at every place.
        probe_kept_bits: whether the answer has the same logprob bits with the probe and without it.
        seconds: of all passes.
        seconds_plain: of a pass without the probe.
        seconds_watched: of a pass with it.
        watched: tokens of the answer whose steps were watched.
        notes: what a reader must know beside.
    """

    arm: ArmName
    options: Options
    provenance: str
    needle: Count
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    packed: dict[str, tuple[str, ...]]
    full: bool
    alone_repeats: bool
    probe_kept_bits: bool
    seconds: float
    seconds_plain: float
    seconds_watched: float
    watched: Count
    notes: tuple[str, ...] = ()


class KeptPass(NamedTuple):
    """A pass that was read.

    Attributes:
        words: what is known of it.
        steps: as they were.
        rows: by step, and number of the event in it, the needle's rows of each tensor that came out, or None.
    """

    words: PassWords
    steps: tuple[Step, ...]
    rows: tuple[Mapping[int, tuple[Any, ...]], ...]

    def kept(self, device: Any) -> dict[Place, list[Kept]]:
        """As `e2e.locate.judging.graft.Comparer` takes it.

        Args:
            device: that the engine computes on whose rows are compared with these.
        """
        found: dict[Place, list[Kept]] = defaultdict(list)
        for step, rows in zip(self.steps, self.rows, strict=True):
            for number, outputs in rows.items():
                event = step.events[number]
                call = Call(event.place, event.kind, _held(event.inputs, device), event.sequence)
                call.outputs, call.scalars = _held(event.outputs, device), event.scalars
                there = tuple(one if one is None else one.to(device) for one in outputs)
                found[event.place].append(Kept(step.rows, call, there, None))
        return found


def _held(values: Sequence[Values], device: Any) -> list[Held]:
    import torch

    def there(digests: Any) -> Any:
        """Digests on the device, as a recorder holds them."""
        return digests if torch.device(device).type == "cpu" else torch.from_numpy(digests).to(device)

    return [Held(v.space, v.shape, there(v.digests) if len(v.digests) else None) for v in values]


def save_pass(file: Path, words: PassWords, steps: Sequence[Step], kept: Mapping[Place, Sequence[Kept]]) -> None:
    """Write it.

    Raises:
        OSError: there is no room, or no such directory.
    """
    import torch

    tensors: dict[str, Any] = {}
    digests: list[Any] = []
    told = [_told(number, step, kept, tensors, digests) for number, step in enumerate(steps)]
    tensors[_DIGESTS] = torch.from_numpy(np.concatenate(digests)) if digests else torch.zeros(0, dtype=torch.int64)
    header = _Header(words=words, steps=tuple(told)).model_dump_json()
    write_tensors(file, tensors, {"pass": header})


class _Header(Record):
    words: PassWords
    steps: tuple[KeptStep, ...]


def _told(
    number: int, step: Step, kept: Mapping[Place, Sequence[Kept]], tensors: dict[str, Any], digests: list[Any]
) -> KeptStep:
    """A step as JSON has it; its tensors and digests go into ``tensors`` and ``digests``."""

    def of(values: Sequence[Values]) -> tuple[KeptValues, ...]:
        """Values without their digests, which follow each other in one tensor."""
        digests.extend(one.digests for one in values)
        return tuple(KeptValues(space=one.space, shape=one.shape, digests=len(one.digests)) for one in values)

    def rows_of(at: int, event: Event) -> tuple[str, ...]:
        """The names of the tensors that an event's own rows are kept as; empty for an output of which none are."""
        own = next((one.outputs for one in kept.get(event.place, ()) if one.rows == step.rows), ())
        names = [f"{number}.{at}.{output}" if one is not None else "" for output, one in enumerate(own)]
        tensors.update({name: one.cpu().contiguous() for name, one in zip(names, own, strict=True) if name})
        return tuple(names)

    events = tuple(
        KeptEvent(
            **event.place._asdict(),
            kind=event.kind,
            inputs=of(event.inputs),
            outputs=of(event.outputs),
            sequence=event.sequence,
            inside=event.inside,
            scalars=event.scalars,
            unseen=event.unseen,
            rows=rows_of(at, event),
        )
        for at, event in enumerate(step.events)
    )
    return KeptStep(rows=asdict(step.rows), token_ids=step.token_ids, counted=step.counted, events=events)


def read_pass(file: Path) -> KeptPass:
    """What `save_pass` wrote."""
    words, tensors = read_tensors(file)
    header = _Header.model_validate_json(words["pass"])
    digests = tensors.pop(_DIGESTS).numpy()
    place = 0

    def of(values: Sequence[KeptValues]) -> tuple[Values, ...]:
        """Values with the next of the digests."""
        nonlocal place
        found = []
        for one in values:
            found.append(Values(one.space, digests[place : place + one.digests], one.shape))
            place += one.digests
        return tuple(found)

    steps, rows = [], []
    for told in header.steps:
        events = tuple(
            Event(
                Place(one.path, one.operator, one.number),
                one.kind,
                of(one.inputs),
                of(one.outputs),
                one.sequence,
                inside=one.inside,
                scalars=tuple(_INFINITE.get(scalar, scalar) for scalar in one.scalars),
                unseen=one.unseen,
            )
            for one in told.events
        )
        own = {at: tuple(tensors.get(name) for name in one.rows) for at, one in enumerate(told.events) if any(one.rows)}
        steps.append(Step(NeedleRows(**told.rows), told.token_ids, events, told.counted))  # type: ignore[arg-type]
        rows.append(own)
    return KeptPass(header.words, tuple(steps), tuple(rows))


_INFINITE: dict[Any, float] = {"Infinity": float("inf"), "-Infinity": float("-inf")}
"""As `Record` writes them into JSON."""
