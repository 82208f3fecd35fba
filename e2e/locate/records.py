"""What `locate` finds, as immutable records; ``located.json`` holds a `Located`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from e2e.workload.options import ArmName, Options
from profiles.run_files.record import Record

Count = Annotated[int, Field(ge=0, lt=1 << 53)]
StepKind = Literal["prefill", "chunk", "decode"]


def place_words(path: str, operator: str) -> str:
    """A module's path and the operator in it, either of which may be empty."""
    return ": ".join(part for part in (path or "outside of all modules", operator) if part)


class Cause(Record):
    """A place whose inputs were equal in some of the needle's rows, and whose outputs were not.

    Attributes:
        step: number of the needle's step, from 0.
        step_kind: ``prefill``, ``chunk`` (a part of one) or ``decode``.
        layer: its number; None outside of all layers.
        path: of the module; empty outside of all.
        operator: its name; empty where nothing smaller than the module could be judged.
        number: how many calls of the same came before in the step.
        kind: of the place, see `e2e.locate.seen.trace.Kind`.
        inside: operators that ran in it and were not judged by themselves.
        rows: of the needle in the step.
        rows_equal: those whose inputs were equal.
        rows_differ: those of them whose outputs were not.
        elements: that differ in the row where most do; None where they were not counted.
        elements_of: elements of a row.
        ulps: by which they differ at most, units in the last place; None where they were not counted.
        distance: see `Cell`; of all rows.
        why_not_smaller: of a module or a compiled part, why nothing inside could be judged.
        ranks: of several those in which they differ; empty where all do.
    """

    step: Count
    step_kind: StepKind
    layer: Count | None
    path: str
    operator: str
    number: Count
    kind: Literal["operator", "module", "attention", "cache write", "compiled"]
    inside: tuple[str, ...] = ()
    rows: Count
    rows_equal: Count
    rows_differ: Count
    elements: Count | None = None
    elements_of: Count | None = None
    ulps: Count | None = None
    distance: Annotated[float, Field(ge=0)] | None = None
    why_not_smaller: tuple[str, ...] = ()
    ranks: tuple[Count, ...] = ()

    @property
    def place(self) -> str:
        """The module's path and the operator."""
        return place_words(self.path, self.operator)


class Cell(Record):
    """How far the needle is from itself alone, at the end of a layer in a step.

    Attributes:
        step: number of the needle's step, from 0.
        path: of the module.
        rows: share of the needle's rows that differ.
        elements: share of their elements that do; None where they were not counted.
        distance: against another engine the length of the difference over the length of the rows themselves, as
            vectors; None where it was not computed.
    """

    step: Count
    path: str
    rows: Annotated[float, Field(ge=0, le=1)]
    elements: Annotated[float, Field(ge=0, le=1)] | None = None
    distance: Annotated[float, Field(ge=0)] | None = None


class StepSeen(Record):
    """One of the needle's steps.

    Attributes:
        kind: see `Cause`.
        tokens_alone: that the step computed where the needle was alone; None where no step alone was like it.
        tokens: that it computed in company.
        sequences: in company.
    """

    kind: StepKind
    tokens_alone: Count | None
    tokens: Count
    sequences: Count


class Neighbour(Record):
    """The sequence with which the needle's bits in a call of attention change, and what it is about it.

    Attributes:
        queries: tokens of it that the call computes.
        keys: its tokens, these among them.
        unit: of which fewer would change nothing; None where one token of it is enough.
        same: the most of these at which the needle's bits are those alone.
        other: the fewest at which they are not.
    """

    queries: Count
    keys: Count
    unit: Literal["queries", "keys"] | None = None
    same: Count | None = None
    other: Count | None = None


class Bound(Record):
    """The guilty call as an operator of kernels_bench.

    Attributes:
        plugin: the file that makes it one.
        operator: its name there.
    """

    plugin: str
    operator: str


class KnownCase(Record):
    """The guilty call as a case of an operator that kernels_bench has.

    Attributes:
        operator: its name.
        sizes: of the shape, as they are typed.
        dtype: likewise.
        arm: whose kernel it is.
    """

    operator: str
    sizes: tuple[Annotated[int, Field(ge=1)], ...]
    dtype: str
    arm: str


class Replayed(Record):
    """The guilty call, run alone in another process with its real inputs.

    Attributes:
        rows_alone: rows of the call with the needle alone.
        rows_company: rows of the call as it was.
        unit: what is counted so; of attention sequences in place of rows.
        same: the most rows that were tried at which the needle's bits are those alone; None if nothing changes them.
        other: the fewest at which they are not.
        content: whether zeros in place of the neighbours' rows give the needle the bits that it has alone.
        neighbour: of attention, that with which they change.
        kernels_same: names of what the call launches at ``same``, in order; of a CPU what took most time. Empty where
            the profiler told none.
        kernels_other: likewise at ``other``.
        bound: the call as an operator of kernels_bench; None where there is none.
        known: the call as a case of an operator that kernels_bench has; None where it has none.
        rows_differ: the needle's rows that differ.
        elements: elements that do.
        seconds: that it took.
        reason: why it could not be run; empty where it was.
    """

    rows_alone: Count = 0
    rows_company: Count = 0
    unit: Literal["rows", "sequences"] = "rows"
    same: Count | None = None
    other: Count | None = None
    content: bool = False
    neighbour: Neighbour | None = None
    kernels_same: tuple[str, ...] = ()
    kernels_other: tuple[str, ...] = ()
    bound: Bound | None = None
    known: KnownCase | None = None
    rows_differ: Count = 0
    elements: Count = 0
    seconds: Annotated[float, Field(ge=0)] = 0.0
    reason: str = ""


class Against(Record):
    """Another engine of the same model, which owes nobody the same bits, and how far it was from the first.

    Attributes:
        name: as it was asked for.
        provenance: of it.
        lacking: kinds of modules that have no counterpart in it and were not compared.
        tokens: of the answer that could be compared: those before the engines' tokens part, and the first other one.
        tokens_same: how many of these it chose too.
        logprobs_same: how many of the first engine's tokens, as far as both computed them after the same ones, have the
            same log probability in both, to the bit.
        logprob_apart: by which the log probabilities of these differ at most.
    """

    name: str
    provenance: str
    lacking: tuple[str, ...] = ()
    tokens: Count
    tokens_same: Count
    logprobs_same: Count
    logprob_apart: Annotated[float, Field(ge=0)]


class Located(Record):
    """What was found out about one needle in one trial, or against another engine.

    Attributes:
        version: of this record.
        arm: the engine's.
        options: what the engine was given.
        provenance: of the engine.
        trial: number of the trial, see `e2e.workload.trials`.
        needle: its number.
        needle_tokens: of its prompt.
        sequences: of the trial.
        repeats: in how many of how many comparisons the needle's logprobs in company were others than alone, without
            the probe.
        answer_differs: whether they were in the first of them.
        alone_repeats: whether the needle alone had the same bits twice.
        probe_kept_bits: whether the needle had the same logprob bits with the probe and without it.
        first: the first cause; None where there is none.
        causes: all independent ones, one for each place, in order; None where they were not asked for.
        kept_bits: whether the needle kept the bits that it has alone once all of them were put right; None where that
            was not run.
        watched: tokens of the answer whose steps were watched.
        places: that were judged.
        unjudged: those of them about which nothing could be said by itself.
        notes: what a reader must know beside.
        steps: the needle's.
        cells: by step and layer.
        call: file of the first cause's call, with its inputs; None where it could not be saved.
        replayed: what came of running it alone; None where that was not done.
        seconds: of all passes, without the engine's start.
        seconds_plain: of a pass in company without the probe, the shortest.
        seconds_watched: of a pass in company with it: first around layers, of which no operator is watched.
        seconds_inside: of one in which the operators of some modules were watched as well; None where there was none.
        looked_into: of how many modules they were.
        against: the other engine; None where passes of one engine were compared.  There ``trial`` is 0, nothing is in
            company, and "in company" stands for the other engine where vLLM is both, for vLLM's own where it is
            compared with transformers.
    """

    version: Literal[3] = 3
    arm: ArmName
    options: Options
    provenance: str
    trial: int
    needle: Count
    needle_tokens: Count
    sequences: Count
    repeats: tuple[Count, Count]
    answer_differs: bool
    alone_repeats: bool
    probe_kept_bits: bool
    first: Cause | None
    causes: tuple[Cause, ...] | None
    kept_bits: bool | None
    watched: Count
    places: Count
    unjudged: Count
    notes: tuple[str, ...] = ()
    steps: tuple[StepSeen, ...] = ()
    cells: tuple[Cell, ...] = ()
    call: str | None = None
    replayed: Replayed | None = None
    seconds: Annotated[float, Field(ge=0)]
    seconds_plain: Annotated[float, Field(ge=0)]
    seconds_watched: Annotated[float, Field(ge=0)]
    seconds_inside: Annotated[float, Field(ge=0)] | None = None
    looked_into: Count = 0
    against: Against | None = None
