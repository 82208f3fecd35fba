"""What is found out of speed: each sample, what the samples say, and what the device can do at most."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from kernels_bench.records.cases import Case, Load
from kernels_bench.records.results.status import Cause, Seconds, Status
from profiles.run_files.record import Record


class Samples(Record):
    """Timings of one case at one M with a warm or a cold L2.

    Attributes:
        us: every sample, in microseconds a call, in the order they were taken.
        clock_mhz: SM clock during each sample, or empty on a CPU.
        calls: calls that one sample is the mean of.
        method: ``graph``: bracketed by events inside a CUDA graph; ``stream``: launched eagerly behind a kernel
            that holds the stream until the host has queued them; ``host``: the CPU's clock.
        overhead_us: already subtracted from each sample, at the last turn: what the method adds to a call.
    """

    us: tuple[float, ...]
    clock_mhz: tuple[float, ...] = ()
    calls: int
    method: Literal["graph", "stream", "host"]
    overhead_us: float = 0.0

    @model_validator(mode="after")
    def _has_a_clock_each(self) -> Self:
        if len(self.clock_mhz) not in {0, len(self.us)}:
            raise ValueError(f"{len(self.us)} samples have {len(self.clock_mhz)} clocks")
        return self


class SampleSummary(Record):
    """What the samples say.

    Attributes:
        median_us: median over the samples taken at full clock (over all of them, if too few were).
        p10_us: tenth percentile.
        p90_us: ninetieth percentile.
        error: half the width of the median's 95 % interval, as a share of the median.
        samples: how many samples were used.
        slowed: how many were set aside because the clock had fallen.
        warnings: what a reader must know, each naming its remedy.
    """

    median_us: float
    p10_us: float
    p90_us: float
    error: float
    samples: int
    slowed: int = 0
    warnings: tuple[str, ...] = ()


class Timing(Record):
    """The speed of one case at one M.

    Attributes:
        kind: tells it from records of other kinds.
        case: what was timed.
        m: number of rows.
        length: tokens of every sequence, where rows are sequences; None elsewhere.
        status: how it ended.
        reason: for every status but ``measured``.
        cause: likewise; None in runs of before it was kept, see `kernels_bench.records.causes`.
        warm: with inputs and weights in L2 as far as they fit.
        cold: with L2 filled with other data before each call.
        warm_samples: the raw samples.
        cold_samples: the raw samples.
        bytes_moved: fewest bytes that must cross the memory bus.
        operations: floating-point operations asked for.
        message_bytes: bytes that each rank gives to a collective; 0 where no ranks compute together.
        bus_bytes: fewest bytes that each rank must send, likewise.
        throttle_reasons: that slow a kernel and were seen during the samples.
        power_w: card's power draw afterwards.
        temperature_c: card's temperature afterwards.
        wall_ms: wall time of the whole measurement in its worker, compilation apart.
        compile_ms: first call, with compilation, capture and data.
        other_bits: why what was timed is not what was verified: the last results of the timed calls are compared with
            the first call's, and these with the verified; empty where all bits agree.
    """

    kind: Literal["timing"] = "timing"
    case: Case
    m: int
    length: int | None = None
    status: Status
    reason: str = ""
    cause: Cause | None = None
    warm: SampleSummary | None = None
    cold: SampleSummary | None = None
    warm_samples: Samples | None = None
    cold_samples: Samples | None = None
    bytes_moved: int = 0
    operations: int = 0
    message_bytes: int = 0
    bus_bytes: float = 0.0
    throttle_reasons: tuple[str, ...] = ()
    power_w: float | None = None
    temperature_c: float | None = None
    wall_ms: float = 0.0
    compile_ms: float = 0.0
    other_bits: str = ""

    @property
    def key(self) -> str:
        """What identifies the timing in a run."""
        return f"{self.case.key}/{self.load.token}"

    @property
    def load(self) -> Load:
        """What was timed of the case."""
        return Load(m=self.m, length=self.length)


class Rough(Record):
    """About how fast one of an arm's candidates is, by which a search decides whether it is verified and timed.

    Attributes:
        kind: tells it from records of other kinds.
        case: what was timed; nobody has looked at its result yet.
        status: how it ended.
        reason: for every status but ``measured``.
        cause: likewise.
        us: a few calls' median in microseconds with a cold cache, by M.
        seconds: wall time, compilation included.
        ended: whether it ended its process, or was ended with it since no answer came: it is not tried anywhere else.
    """

    kind: Literal["rough"] = "rough"
    case: Case
    status: Status
    reason: str = ""
    cause: Cause | None = None
    us: dict[int, float] = Field(default_factory=dict)
    seconds: Seconds = 0.0
    ended: bool = False


class Ceiling(Record):
    """What the device can do at most, measured in the same run by the default arm.

    Attributes:
        kind: tells it from records of other kinds.
        bandwidth_gb_s: the faster of reading a large buffer and of copying it (bytes read plus bytes written), in
            10^9 bytes a second.
        tflop_s: a large matrix product, by the input dtypes of what was timed, in 10^12 operations a second.
    """

    kind: Literal["ceiling"] = "ceiling"
    bandwidth_gb_s: float
    tflop_s: dict[str, float]
