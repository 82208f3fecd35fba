"""Why a case was not measured, as a value; `Verification.reason` and `Timing.reason` say it to people."""

from __future__ import annotations

from kernels_bench.records.results import Cause, Timing, Verification


def cause_of(record: Verification | Timing) -> Cause:
    """The cause of a record that is not ``measured``.

    Runs of before causes were kept have it in their words alone; nothing else is to look for it there.
    """
    if record.cause is not None:
        return record.cause
    reason = record.reason.lower()
    if "out of memory" in reason:
        return "out_of_memory"
    return "no_answer" if "no answer" in reason or "timed out" in reason else "other"
