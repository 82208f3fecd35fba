"""What is found out, as immutable records: of bits, of speed, and of the run itself."""

from kernels_bench.records.results.lines import (
    NUMBERED_FROM,
    READABLE_VERSIONS,
    SCHEMA_VERSION,
    AnyRecord,
    ArmStart,
    Finished,
)
from kernels_bench.records.results.status import Cause, Seconds, Status
from kernels_bench.records.results.timing import Ceiling, Rough, Samples, SampleSummary, Timing
from kernels_bench.records.results.verification import (
    SURE,
    Accuracy,
    BatchName,
    BatchRef,
    Counterexample,
    FoundOrder,
    Order,
    RelationResult,
    Verification,
    power_of,
    was_same_data,
)

__all__ = [
    "NUMBERED_FROM", "READABLE_VERSIONS", "SCHEMA_VERSION", "SURE", "Accuracy", "AnyRecord", "ArmStart", "BatchName",
    "BatchRef", "Cause", "Ceiling", "Counterexample", "Finished", "FoundOrder", "Order", "RelationResult", "Rough",
    "SampleSummary", "Samples", "Seconds", "Status", "Timing", "Verification", "power_of", "was_same_data",
]  # fmt: skip
