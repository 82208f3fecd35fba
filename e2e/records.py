"""What is found out, as immutable records; the schema of a run directory's ``records.jsonl``.

Raise `SCHEMA_VERSION` with every change that an older reader would misread.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from e2e.workload.options import ArmName, Options, OptionsError, check
from e2e.workload.trials import STAGGERED, has_trial, trial_in_words, trials_of
from kernels_bench.planned.use import PlanUse
from kernels_bench.records.cases import Device
from profiles.instruments.environment import Environment
from profiles.run_files.record import Record
from profiles.run_files.run_directory import Format, ResultsError, StoredRun

SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, SCHEMA_VERSION)
"""In schema 1 lines had no number and no digest."""
NUMBERED_FROM = 2

Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Positive = Annotated[int, Field(ge=1, lt=1 << 53)]
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]
Bits = Annotated[int, Field(ge=0, lt=1 << 32)]
TrialNumber = Annotated[int, Field(ge=STAGGERED, lt=1 << 31)]
Seconds = Annotated[float, Field(ge=1e-9, le=1e9, allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class Answer(Record):
    """What the engine answered to one needle.

    Attributes:
        needle: its number.
        tokens: ids of the tokens generated.
        logprobs: of each token, the 32 bits of its fp32 log probability as a whole number.
        prompt: likewise of the needle's own tokens from its second on; none where it was not watched, see
            `e2e.workload.prompts.watched`.
    """

    needle: Count
    tokens: tuple[TokenId, ...] = Field(min_length=1)
    logprobs: tuple[Bits, ...]
    prompt: tuple[Bits, ...] = ()

    @model_validator(mode="after")
    def _every_token_has_its_log_probability(self) -> Self:
        if len(self.logprobs) != len(self.tokens):
            raise ValueError(f"there are {len(self.logprobs)} log probabilities for {len(self.tokens)} tokens")
        return self


class Speeds(Record):
    """Latencies of one batch, in milliseconds, medians over its sequences.

    By the engine's own metrics where it is a library, and by its client's clock where it is a server.

    Attributes:
        first_token_ms: from a sequence's arrival to its first token.
        output_token_ms: between two of its tokens.
    """

    first_token_ms: Milliseconds
    output_token_ms: Milliseconds


class Started(Record):
    """An engine that is up.

    Attributes:
        kind: tells it from records of other kinds.
        arm: its name.
        init_s: until it was ready to generate.
        provenance: version of vLLM, attention backend and what else was decided for it.
        vocabulary: how many token ids there are.
        needles: prompts of the needles, as token ids.
        plan: what became of the plan in the engine; of the arm ``planned`` only.
    """

    kind: Literal["started"] = "started"
    arm: ArmName
    init_s: Seconds
    provenance: str
    vocabulary: Count
    needles: tuple[tuple[TokenId, ...], ...] = Field(min_length=1)
    plan: PlanUse | None = None


class SoloAnswers(Record):
    """The needles one by one, each the whole batch; twice, since only a repeatable engine can be judged.

    Attributes:
        kind: tells it from records of other kinds.
        arm: its name.
        answers: first of all needles, then of all again.
    """

    kind: Literal["alone"] = "alone"
    arm: ArmName
    answers: tuple[Answer, ...]


class Trial(Record):
    """The needles in a batch.

    Attributes:
        kind: tells it from records of other kinds.
        arm: its name.
        trial: its number; -2 where the sequences came one after another (`e2e.workload.trials.STAGGERED`).
        batch_size: sequences.
        prompt_tokens: of all prompts.
        places: where each needle stood.
        seconds: in ``generate``.
        tokens: generated, over all sequences.
        answers: one a needle.
        speeds: by the engine's metrics; None where it gave none.
        gpu_s: seconds in which the GPU computed, where the same batch was answered once more under torch's profiler;
            None where that was not asked for, or nothing could be recorded.
    """

    kind: Literal["trial"] = "trial"
    arm: ArmName
    trial: TrialNumber
    batch_size: Positive
    prompt_tokens: Count
    places: tuple[Count, ...]
    seconds: Seconds
    tokens: Positive
    answers: tuple[Answer, ...]
    speeds: Speeds | None = None
    gpu_s: Seconds | None = None


class ArmLost(Record):
    """An arm that could not go on.

    Attributes:
        kind: tells it from records of other kinds.
        arm: its name.
        status: ``unsupported``: there is no such thing here; ``failed``: it broke.
        reason: one line.
    """

    kind: Literal["lost"] = "lost"
    arm: ArmName
    status: Literal["unsupported", "failed"]
    reason: str


class Finished(Record):
    """The end of a command that wrote to the run.

    Attributes:
        kind: tells it from records of other kinds.
        seconds: wall time of the command.
    """

    kind: Literal["finished"] = "finished"
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


AnyRecord = Annotated[Started | SoloAnswers | Trial | ArmLost | Finished, Field(discriminator="kind")]


class Manifest(Record):
    """What was run, and where.

    Attributes:
        schema_version: of this file and of the records.
        created: UTC, ISO 8601.
        command: as typed, to run the same again.
        options: what the engines were given.
        model: what the model's name stood for here.
        arms: those that were asked for.
        trials: those that were asked for, see `e2e.workload.trials`; None, in runs of before they were kept: all.
        device: what the engines ran on.
        environment: versions, settings and hardware that results depend on.
        apart: why arms ran one after the other, so that speeds were measured one after the other; None where they took
            turns, where there is one arm alone, and in runs of before this was kept.
    """

    schema_version: int = SCHEMA_VERSION
    created: str
    command: str
    options: Options
    model: str
    arms: tuple[ArmName, ...] = Field(min_length=1)
    trials: tuple[TrialNumber, ...] | None = None
    device: Device
    environment: Environment
    apart: str | None = None

    @model_validator(mode="after")
    def _options_make_sense_together(self) -> Self:
        try:
            check(self.options)
        except OptionsError as error:
            raise ValueError(str(error)) from error
        return self

    def asked(self, arm: ArmName) -> tuple[int, ...]:
        """The trials that were asked for of an arm."""
        trials = trials_of(self.options) if self.trials is None else self.trials
        return tuple(trial for trial in trials if has_trial(arm, trial))

    @property
    def turns(self) -> str:
        """Whether arms took turns, in words that can end a sentence; nothing of a single arm."""
        if len(self.arms) < 2:
            return ""
        if self.options.interleave:
            return "arms took turns, trial by trial"
        return "speeds were measured one arm after the other" + (f" ({self.apart})" if self.apart else "")


class AtTpSize(Record):
    """The needles alone, at one tensor-parallel size.

    Attributes:
        tp_size: of the engine.
        provenance: see `Started`.
        answers: see `SoloAnswers`.
        reason: why there are none; empty where there are.
    """

    tp_size: Positive
    provenance: str = ""
    answers: tuple[Answer, ...] = ()
    reason: str = ""


class TpSizes(Record):
    """What ``tp-sizes`` found.

    Attributes:
        arm: in whose mode the engines ran.
        options: what they were given beside their sizes.
        model: what the model's name stood for here.
        device: what they ran on.
        sizes: in the order in which they were asked for; of a command that was interrupted fewer than these.
    """

    arm: ArmName
    options: Options
    model: str
    device: Device
    sizes: tuple[AtTpSize, ...] = Field(min_length=1)


FORMAT: Format[Manifest, AnyRecord] = Format(
    Manifest, TypeAdapter(AnyRecord), SCHEMA_VERSION, READABLE_VERSIONS, NUMBERED_FROM, "e2e"
)


class RunDirectory(StoredRun[Manifest, AnyRecord]):
    """One run on disk, open for reading and appending."""

    format = FORMAT


@dataclass
class RunState:
    """What is known of a run so far."""

    started: dict[ArmName, Started]
    alone: dict[ArmName, SoloAnswers]
    trials: dict[ArmName, list[Trial]]
    lost: dict[ArmName, ArmLost]

    def take(self, record: AnyRecord) -> None:
        """Another record; of an arm that was lost and went on, what it did since counts.

        Where answers are missing, nothing is concluded from the others: the arm is lost as far as it depends on them,
        and a run that is resumed asks for them again.
        """
        if isinstance(record, Started):
            self.started[record.arm] = record
            self.lost.pop(record.arm, None)
        elif isinstance(record, SoloAnswers | Trial) and (reason := self._lacking(record)):
            self.lost[record.arm] = ArmLost(arm=record.arm, status="failed", reason=reason)
        elif isinstance(record, SoloAnswers):
            self.alone[record.arm] = record
        elif isinstance(record, Trial):
            self.trials.setdefault(record.arm, []).append(record)
        elif isinstance(record, ArmLost):
            self.lost[record.arm] = record

    def _lacking(self, record: SoloAnswers | Trial) -> str:
        """Why a record's answers are not those of every needle; nothing where they are."""
        numbers = [answer.needle for answer in record.answers]
        each = 2 if isinstance(record, SoloAnswers) else 1
        # Every arm is started first; where that record is gone, its needles are those that answered.
        started = self.started.get(record.arm)
        count = len(started.needles) if started is not None else max(1, len(set(numbers)))
        if numbers == [*range(count)] * each:
            return ""
        where = trial_in_words(record.trial) if isinstance(record, Trial) else "the needles alone"
        wanted = f"{each * count} belong there, {each} of each of {count} needles in turn"
        return f"the record of {where} holds {len(numbers)} answers where {wanted}; --resume asks again"


def read_state(records: Iterable[AnyRecord]) -> RunState:
    """A run's records, sorted.

    Raises:
        ResultsError: those of an arm do not belong together.
    """
    ledger = RunState({}, {}, {}, {})
    for record in records:
        ledger.take(record)
    for arm, alone in ledger.alone.items():
        needles, odd = divmod(len(alone.answers), 2)
        if odd or any(len(trial.answers) != needles for trial in ledger.trials.get(arm, ())):
            raise ResultsError(f"the records of {arm} do not belong together: trials have other needles than it alone")
    return ledger
