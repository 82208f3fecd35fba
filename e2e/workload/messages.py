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
        looked_into: whether it will be asked to `Locate`, for which it remembers what it packs.
    """

    arm: ArmName
    model: str
    options: Options
    on_gpu: bool
    looked_into: bool = False


class RunAlone(Record):
    """Request: the needles one by one; answered with `e2e.records.SoloAnswers`."""


class RunTrial(Record):
    """Request: one trial; answered with `e2e.records.Trial`.

    Attributes:
        trial: its number, or one of those that are not timed, see `e2e.workload.trials`.
    """

    trial: int


class Locate(Record):
    """Request: the first cause of a needle's other bits; answered with `e2e.locate.records.Located`.

    Attributes:
        trials: in which it is looked for, in this order.
        needle: its number; None for the first that differs.
        directory: where the guilty call is saved.
        all_causes: whether causes after the first are looked for too.
    """

    trials: tuple[int, ...]
    needle: int | None
    directory: str
    all_causes: bool


class KeepPass(Record):
    """Request: the needle alone, as a file that another engine is compared with; answered with `PassKept`.

    Attributes:
        needle: its number; None for the longest.
        file: that is written.
        modules_only: whether only of modules is kept what came out.
    """

    needle: int | None
    file: str
    modules_only: bool


class PassKept(Record):
    """The pass is kept."""


class ComparePass(Record):
    """Request: the needle of a kept pass in this engine; answered with `e2e.locate.records.Located`.

    Attributes:
        file: that holds the pass.
        name: how this engine was asked for.
        all_causes: whether places after the first that part by themselves are looked for too.
    """

    file: str
    name: str
    all_causes: bool


class CompareTransformers(Record):
    """Request: likewise, in Hugging Face transformers and without an engine.

    Attributes:
        compare: the same of an engine.
        model: path or name that vLLM was given.
        attention: as transformers names it; None leaves it to transformers.
        on_gpu: whether there is a GPU.
    """

    compare: ComparePass
    model: str
    attention: str | None
    on_gpu: bool


class Replay(Record):
    """Request: a saved call alone, without an engine; answered with `e2e.locate.records.Replayed`.

    Attributes:
        file: that holds it.
        plugin: whether a plugin of kernels_bench is wanted beside it.
    """

    file: str
    plugin: bool = False


class Describe(Record):
    """Request: the device, without an engine; answered with `kernels_bench.records.cases.Device`."""
