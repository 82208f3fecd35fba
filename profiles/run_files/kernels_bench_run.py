"""A run of kernels_bench, read as files: what was timed, and which verdicts are variant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Tag, TypeAdapter

from profiles.errors import ReportError
from profiles.instruments.range_names import TimedRange
from profiles.run_files.record import Record
from profiles.run_files.run_directory import Format, ResultsError

SCHEMA_VERSIONS = (2, 3, 4, 5, 6)
NUMBERED_FROM = 5

# In this order sizes stand in a range's message.
_SIZES = ("b", "n", "heads", "kv_heads", "k", "page", "tokens")


class _Part(Record):
    """What is read of a record; the rest is none of ours."""

    model_config = ConfigDict(extra="ignore")


class _Precision(_Part):
    input: str
    output: str


class _Case(_Part):
    arm: str
    operator: str
    shape: dict[str, int | str | tuple[tuple[str, int], ...] | None]
    precision: _Precision


class _Median(_Part):
    median_us: float


class _Samples(_Part):
    calls: int
    method: Literal["graph", "stream", "host"]


class _Timing(_Part):
    case: _Case
    m: int
    length: int | None = None
    status: str
    warm: _Median | None = None
    cold: _Median | None = None
    warm_samples: _Samples | None = None


class _Company(_Part):
    spec: str
    size: int
    launch: str


class _Counterexample(_Part):
    relation: str
    reference: _Company
    company: _Company


class _Relation(_Part):
    status: str
    binding: bool = True
    counterexample: _Counterexample | None = None


class _Verification(_Part):
    case: _Case
    status: str
    wrong: str = ""
    relations: tuple[_Relation, ...] = ()


class _ArmStart(_Part):
    arm: str
    pid: int


class _Other(_Part):
    """A record of which nothing is read."""


class _Manifest(_Part):
    schema_version: int
    selection: dict[str, Any]


def _kind(record: Any) -> str:
    kind = record.get("kind") if isinstance(record, dict) else None
    return kind if kind in ("timing", "verification", "arm") else "other"


_AnyPart = Annotated[
    Annotated[_Timing, Tag("timing")]
    | Annotated[_Verification, Tag("verification")]
    | Annotated[_ArmStart, Tag("arm")]
    | Annotated[_Other, Tag("other")],
    Discriminator(_kind),
]

FORMAT: Format[_Manifest, _AnyPart] = Format(
    _Manifest, TypeAdapter(_AnyPart), SCHEMA_VERSIONS[-1], SCHEMA_VERSIONS, NUMBERED_FROM, "profiles"
)


@dataclass(frozen=True)
class CaseName:
    """One arm's implementation of one operator at one shape and precision.

    Attributes:
        arm: who computes it.
        operator: what is computed.
        shape: its sizes, such as ``4096x12288``.
        precision: such as ``bf16`` or ``bf16:fp32``.
    """

    arm: str
    operator: str
    shape: str
    precision: str

    @property
    def key(self) -> str:
        """As the run's own tables write it."""
        return f"{self.arm}/{self.operator}/{self.shape}/{self.precision}"


@dataclass(frozen=True)
class Timed:
    """A timed case.

    Attributes:
        case: what was timed.
        m: number of rows.
        length: tokens of every sequence, where rows are sequences.
        warm_us: median, warm.
        cold_us: median, cold.
        calls: calls that one warm sample is the mean of; 0 where the samples were not kept.
        method: how samples were taken: ``graph``, ``stream`` or ``host``.
    """

    case: CaseName
    m: int
    length: int | None
    warm_us: float
    cold_us: float
    calls: int
    method: str

    @property
    def load(self) -> str:
        """``M``, or ``MxLENGTH``."""
        return str(self.m) if self.length is None else f"{self.m}x{self.length}"

    @property
    def key(self) -> str:
        """What identifies the timing in a run."""
        return f"{self.case.key}/{self.load}"

    @property
    def message(self) -> str:
        """What its ranges are called."""
        case = self.case
        return TimedRange(case.arm, case.operator, case.shape, case.precision, self.load).message


@dataclass(frozen=True)
class Batch:
    """One side of a counterexample: its spec, its M, and how it was launched."""

    spec: str
    size: int
    launch: str


@dataclass(frozen=True)
class Variant:
    """A case whose bits changed, by its first counterexample."""

    case: CaseName
    relation: str
    reference: Batch
    company: Batch


@dataclass(frozen=True)
class Run:
    """What is read of a run.

    Attributes:
        path: its directory.
        timed: what was timed, in the order of the records.
        variants: verdicts that are variant.
        workers: process ids of the workers, by arm.
    """

    path: Path
    timed: tuple[Timed, ...]
    variants: tuple[Variant, ...]
    workers: dict[str, frozenset[int]]


def read_run(path: Path) -> Run:
    """A run directory; half a line at the end, of a run that was killed, is left out.

    Raises:
        ReportError: this is no run of kernels_bench, or it is damaged or of another schema.
    """
    try:
        return _read(path)
    except ResultsError as error:
        raise ReportError(str(error)) from error


def _read(path: Path) -> Run:
    if not FORMAT.is_of(path):
        raise ReportError(f"{path} is no run of kernels_bench: --run takes the directory that its --out named")
    FORMAT.read_manifest(path)
    timed: dict[str, Timed] = {}
    variants: dict[str, Variant] = {}
    workers: dict[str, frozenset[int]] = {}
    for record in FORMAT.read_records(path):
        if isinstance(record, _Timing) and (timing := _timed(record)):
            timed[timing.key] = timing
        elif isinstance(record, _Verification) and (variant := _variant(record)):
            variants[variant.case.key] = variant
        elif isinstance(record, _ArmStart):
            workers[record.arm] = workers.get(record.arm, frozenset()) | {record.pid}
    return Run(path, tuple(timed.values()), tuple(variants.values()), workers)


def _name(case: _Case) -> CaseName:
    own = case.shape.get("sizes")  # of an operator of a user's own, by name
    sizes = [size for _, size in own] if isinstance(own, tuple) and own else map(case.shape.get, _SIZES)
    precision = case.precision
    same = precision.input == precision.output
    return CaseName(
        arm=case.arm,
        operator=case.operator,
        shape="x".join(str(size) for size in sizes if size is not None),
        precision=precision.input if same else f"{precision.input}:{precision.output}",
    )


def _timed(record: _Timing) -> Timed | None:
    if record.status != "measured" or record.warm is None or record.cold is None:
        return None
    samples = record.warm_samples
    return Timed(
        case=_name(record.case),
        m=record.m,
        length=record.length,
        warm_us=record.warm.median_us,
        cold_us=record.cold.median_us,
        calls=samples.calls if samples else 0,
        method=samples.method if samples else "",
    )


def _variant(record: _Verification) -> Variant | None:
    """Its first counterexample, if the case is variant and its results are not wrong anyway."""
    if record.status != "measured" or record.wrong:
        return None
    broken = (one for one in record.relations if one.status == "broken" and one.binding)
    found = next((one.counterexample for one in broken if one.counterexample), None)
    if found is None:
        return None
    sides = (Batch(side.spec, side.size, side.launch) for side in (found.reference, found.company))
    return Variant(_name(record.case), found.relation, *sides)
