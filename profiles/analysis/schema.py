"""What is found in a report, as immutable records; `Analysis` is the schema of ``analyze --json``.

Times are in nanoseconds of the GPU's clock where a name ends in ``_ns``, and in microseconds in ``_us``.
"""

from __future__ import annotations

from typing import Literal

from profiles.run_files.record import Record
from profiles.trace.model import Kernel

SCHEMA_VERSION = 1

Cache = Literal["warm", "cold"]
Phase = Literal["trial", "prefill", "decode"]


class Spread(Record):
    """Several durations.

    Attributes:
        count: how many.
        total_ns: their sum.
        average_ns: their mean.
        median_ns: the one in the middle.
        min_ns: the shortest.
        max_ns: the longest.
        deviation_ns: standard deviation of the sample; 0 of a single one.
    """

    count: int
    total_ns: int
    average_ns: float
    median_ns: float
    min_ns: int
    max_ns: int
    deviation_ns: float


class KernelUse(Record):
    """One form of one kernel within the ranges of one label, on one thread.

    Attributes:
        kernel: name, grid, block and registers.
        pid: process that launched it.
        tid: thread that launched it.
        ranges: in how many of the ranges it ran; 0 outside of all ranges.
        time: its durations.
    """

    kernel: Kernel
    pid: int
    tid: int
    ranges: int
    time: Spread


class RangeSummary(Record):
    """All ranges of one label together.

    Attributes:
        domain: empty for the default domain.
        message: the ranges' text; empty stands for what no range encloses.
        style: ``PushPop`` or ``StartEnd``.
        ranges: how many launched something; the others are not counted.
        range_ns: host's time within them.
        launches: calls that launched something; a graph's replay is one.
        kernels: kernels that ran; on a CPU, operators of torch.
        copies: copies of memory.
        fills: fills of memory.
        busy_ns: GPU time covered by at least one kernel, copy or fill, summed over the ranges.
        span: from a range's first start on the GPU to its last end there.
        gaps: how many gaps lie between kernels of a range; overlaps are merged first.
        gap_ns: the gaps' sum; ``span.total_ns - busy_ns``.
        longest_gap_ns: the longest; 0 where there is none.
        uses: kernels, copies and fills by form, those with the most time first.
    """

    domain: str
    message: str
    style: str
    ranges: int
    range_ns: int
    launches: int
    kernels: int
    copies: int
    fills: int
    busy_ns: int
    span: Spread
    gaps: int
    gap_ns: int
    longest_gap_ns: int
    uses: tuple[KernelUse, ...]

    @property
    def text(self) -> str:
        """As nsys writes a range: ``domain:message``."""
        return f"{self.domain}:{self.message}" if self.domain else self.message


class CrossCheck(Record):
    """One timed case beside the kernel time that the report holds of the same call.

    Attributes:
        case: the case's key and load, such as ``torch/mm/4096x4096/bf16/16``.
        arm: who computed it.
        operator: what was computed.
        cache: whether the L2 was warm or cold.
        captured: whether the median was recorded itself: the report holds the run by its workers' process ids, and
            not only what the run replayed when it was over.
        calls: calls that one sample is the mean of.
        samples: replays of which the report holds every kernel.
        kernels: kernels, copies and fills of one call.
        run_us: the run's median.
        kernel_us: busy time of a call, median over the replays.
        span_us: from a sample's first start to its last end, over its calls; median.
        wait_us: what the recording itself puts between a sample's first event and its first kernel, over its calls;
            median.  It is part of a captured run's median.  (The recording also slows the empty kernels by which a
            run tells what its events add: on an H100 0.7 µs a sample, which is not subtracted here.)
        difference_us: ``run_us - kernel_us``, and of a captured run less ``wait_us``.
        uncaptured_us: median of the same case in a run that was not recorded; None where none was named.
    """

    case: str
    arm: str
    operator: str
    cache: Cache
    captured: bool
    calls: int
    samples: int
    kernels: int
    run_us: float
    kernel_us: float
    span_us: float
    wait_us: float
    difference_us: float
    uncaptured_us: float | None = None

    @property
    def uncaptured_difference_us(self) -> float | None:
        """``uncaptured_us - kernel_us``."""
        return None if self.uncaptured_us is None else self.uncaptured_us - self.kernel_us


class CaptureCost(Record):
    """What recording did to a run's medians.

    Attributes:
        cache: whether the L2 was warm or cold.
        cases: that both runs timed.
        share: by which the captured medians are above the others; median over the cases.
    """

    cache: Cache
    cases: int
    share: float


class UnmatchedCase(Record):
    """A timed case whose kernels could not be told.

    Attributes:
        case: as in `CrossCheck`.
        reason: why.
    """

    case: str
    reason: str


class MapEntry(Record):
    """The kernels of one call.

    Attributes:
        load: M, or ``MxLENGTH``.
        m: number of rows.
        length: tokens of every sequence, where rows are sequences.
        kernels: in the order of their starts.
    """

    load: str
    m: int
    length: int | None
    kernels: tuple[Kernel, ...]


class KernelMap(Record):
    """Which kernels one arm runs for one case, by M.

    Attributes:
        case: such as ``torch/mm/4096x4096/bf16``.
        arm: who computed it.
        operator: what was computed.
        shape: sizes and precision.
        entries: by length and M.
        edges: where the kernels change, as ``M=1→16: … → …``.
    """

    case: str
    arm: str
    operator: str
    shape: str
    entries: tuple[MapEntry, ...]
    edges: tuple[str, ...]


class ComparedBatch(Record):
    """One company of a counterexample and what is known of its kernels.

    Attributes:
        company: its spec, such as ``first:4096``.
        size: its M.
        launch: ``eager`` or ``graph``.
        own: whether the kernels are those that ran for this very company.
        timed: else the load whose kernels stand for it; empty where none was timed.
        kernels: of its first launch, or of that load's call.
    """

    company: str
    size: int
    launch: str
    own: bool
    timed: str
    kernels: tuple[Kernel, ...]


class Explanation(Record):
    """Why a case's bits changed, as far as its kernels tell.

    Attributes:
        case: such as ``torch/mm/4096x4096/bf16``.
        relation: what was broken.
        reference: the company that gave the expected bits.
        company: the company under test.
        found: ``changed``: other kernels; ``nothing visible``: the same kernels in the same form; ``untold``: the
            report does not hold the kernels of both.
        changes: what changed, a line each.
        basis: which kernels were compared, in words.
    """

    case: str
    relation: str
    reference: ComparedBatch
    company: ComparedBatch
    found: Literal["changed", "nothing visible", "untold"]
    changes: tuple[str, ...]
    basis: str


class FamilyTime(Record):
    """GPU time of one family of kernels in one arm.

    Attributes:
        family: see `profiles.analysis.kernels.families`.
        kernels: how many ran.
        time_ns: their durations together.
        share: of the arm's total.
    """

    family: str
    kernels: int
    time_ns: int
    share: float


class ArmFamilies(Record):
    """Where one arm's GPU time went.

    Attributes:
        arm: its name.
        phase: ``prefill`` or ``decode`` where ranges tell them apart, else ``trial``: both together.
        ranges: how many ranges were summed up.
        joined: ``launch``: work launched inside the ranges; ``time``: work of other processes that began during them.
        total_ns: durations of all work together.
        families: those with the most time first.
        other: names of the kernels that no pattern knows, those with the most time first.
    """

    arm: str
    phase: Phase
    ranges: int
    joined: Literal["launch", "time"]
    total_ns: int
    families: tuple[FamilyTime, ...]
    other: tuple[str, ...]


class FamilyDifference(Record):
    """What one family costs an arm more than another.

    Attributes:
        family: see `profiles.analysis.kernels.families`.
        arm: the arm.
        phase: as in `ArmFamilies`.
        baseline: the arm that it is compared with.
        difference_ns: time a range over the baseline's; negative where it is less.
    """

    family: str
    arm: str
    phase: Phase
    baseline: str
    difference_ns: int


class RankWait(Record):
    """One rank, or process, among those that computed together.

    Attributes:
        name: such as ``rank 2``, or ``process 4711``.
        last: calls that it came to last.
        waited_ns: how long it waited for others, summed over the calls.
        waited_for_ns: how long the others waited for it, summed over them and the calls.
        waited_for: its own waiting by whom it waited for, in the order of the ranks.
    """

    name: str
    last: int
    waited_ns: int
    waited_for_ns: int
    waited_for: tuple[int, ...]


class RankWaits(Record):
    """Calls that several ranks made together.

    Attributes:
        what: which, in words.
        calls: how many were recorded of all ranks.
        call_ns: from the first rank's coming to the last one's leaving; median.
        ranks: each of them.
    """

    what: str
    calls: int
    call_ns: int
    ranks: tuple[RankWait, ...]


class Told(Record):
    """One fact, and who says so.

    Attributes:
        value: the fact.
        by: ``the report``, or the name of a file beside it.
    """

    value: str
    by: str


class Origin(Record):
    """Where a report comes from. None is what nobody tells.

    Attributes:
        device: name of the GPU; of the processor where all ran on a CPU.
        created: when it was recorded, or else when its run began: UTC, ISO 8601.
        command: as it was typed.
    """

    device: Told | None = None
    created: Told | None = None
    command: Told | None = None


class Analysis(Record):
    """Everything that one report, and the run beside it, tell.

    Attributes:
        schema_version: rises with every incompatible change.
        source: tool that recorded the report.
        report: the file's name.
        origin: its GPU, date and command.
        notes: what is missing, or must be known.
        ranges: those with the most GPU time first; what no range encloses comes last.
        cross_check: of a run's timed cases.
        untold: timed cases whose kernels could not be told.
        capture_costs: of a captured run beside one without a profiler.
        kernel_maps: of a run's timed cases.
        explanations: of a run's variant verdicts.
        families: of an end-to-end run's arms.
        differences: between these arms, largest first.
        waits: of ranks that computed together.
    """

    schema_version: int = SCHEMA_VERSION
    source: str
    report: str
    origin: Origin = Origin()
    notes: tuple[str, ...]
    ranges: tuple[RangeSummary, ...]
    cross_check: tuple[CrossCheck, ...] = ()
    untold: tuple[UnmatchedCase, ...] = ()
    capture_costs: tuple[CaptureCost, ...] = ()
    kernel_maps: tuple[KernelMap, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    families: tuple[ArmFamilies, ...] = ()
    differences: tuple[FamilyDifference, ...] = ()
    waits: tuple[RankWaits, ...] = ()
