"""The lines of a run directory's ``records.jsonl``: their schema, and those that are of no case.

Raise `SCHEMA_VERSION` with every change that an older reader would misread.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kernels_bench.records.cases import Claims
from kernels_bench.records.results.status import Seconds
from kernels_bench.records.results.timing import Ceiling, Rough, Timing
from kernels_bench.records.results.verification import Verification
from profiles.run_files.record import Record

SCHEMA_VERSION = 6
READABLE_VERSIONS = (2, 3, 4, 5, SCHEMA_VERSION)
"""Of schema 2 a relation's ``sizes`` are empty, and ``--batch`` and ``--quick`` chose what was verified, too.

Up to schema 3 few M were tried and no ``power`` was given, and a kernel whose order of addition is the same at every M
was called ``proven``.  Up to schema 4 lines had no number and no digest.  Up to
schema 5 arms had no candidates, and nothing was timed roughly.
"""
NUMBERED_FROM = 5


class ArmStart(Record):
    """An arm's process, once it is up.

    Attributes:
        kind: tells it from records of other kinds.
        arm: its name.
        claims: the relations that the arm says of itself it keeps.
        provenance: which version and path it uses.
        pid: the worker's.
        seconds: from start to ready.
    """

    kind: Literal["arm"] = "arm"
    arm: str
    claims: Claims
    provenance: str
    pid: int
    seconds: Seconds


class Finished(Record):
    """The end of a command that wrote to the run; a resumed run has several.

    Attributes:
        kind: tells it from records of other kinds.
        seconds: wall time of the command, from its start.
    """

    kind: Literal["finished"] = "finished"
    seconds: Seconds


AnyRecord = Annotated[Verification | Timing | Rough | Ceiling | ArmStart | Finished, Field(discriminator="kind")]
