"""What parent and engine process say to each other, as pickled records over a socket pair."""

from __future__ import annotations

from e2e.workload.options import ArmName, Mode, Options
from profiles.run_files.record import Record


class Load(Record):
    """Request: import what an engine is made of, which takes long; answered with `Loaded`.

    Attributes:
        arm: whose engine.
        mode: as in `e2e.workload.options.Options`.
    """

    arm: ArmName
    mode: Mode


class Loaded(Record):
    """It is imported; nothing is started."""


class StartEngine(Record):
    """Request: start the engine; answered with `e2e.records.Started`.

    Attributes:
        arm: whose engine.
        model: path or name that vLLM takes.
        options: what it is given.
        on_gpu: whether there is a GPU; without one vLLM chooses the attention backend.
    """

    arm: ArmName
    model: str
    options: Options
    on_gpu: bool


class RunAlone(Record):
    """Request: the needles one by one; answered with `e2e.records.SoloAnswers`."""


class RunTrial(Record):
    """Request: one trial; answered with `e2e.records.Trial`.

    Attributes:
        trial: its number, or one of those that are not timed, see `e2e.workload.trials`.
    """

    trial: int


class Describe(Record):
    """Request: the device, without an engine; answered with `kernels_bench.records.cases.Device`."""
