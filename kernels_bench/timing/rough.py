"""About how long a kernel takes, where many are to be told apart in little time."""

from __future__ import annotations

from collections.abc import Iterable

from kernels_bench.arms import prepared
from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.device.memory import synchronise
from kernels_bench.relations import make_batch
from kernels_bench.timing.meter import Call, Stopwatch, stopwatch_of
from kernels_bench.verification.accuracy import AccuracyChecker
from kernels_bench.verification.bitwise import digest
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest


def rough_times(subject: KernelUnderTest, sizes: Iterable[int], stopwatch: Stopwatch | None) -> dict[int, float]:
    """Microseconds of a call with a cold cache, by M; each kernel is called once before, so that it is compiled.

    Without a stopwatch nothing is timed.
    """
    found = {}
    for m in sizes:
        call = _call(subject, m)
        call()
        if stopwatch is not None:
            found[m] = stopwatch_of(call, stopwatch).rough_us(call)
    synchronise(subject.device)
    return found


def fault_of(subject: KernelUnderTest, m: int) -> str:
    """What a first look at the first M rows' result tells against a kernel, as a sentence; empty where nothing does.

    What is wrong is often fast, and would keep what is right from being verified.
    """
    company = make_batch(f"first:{m}", subject.universe)
    found, again = subject.start(company), subject.start(company)
    referee = AccuracyChecker(subject)
    ids = copy_to_device(subject.lines(company).ids, subject.device)
    referee.check(ids, found.outputs, lambda _: company.spec)
    if wrong := referee.inaccuracy():
        return f"its result is wrong: {wrong}"
    return "" if digest(found.outputs) == digest(again.outputs) else "it gave other bits when it was called again"


def _call(subject: KernelUnderTest, m: int) -> Call:
    inputs = subject.gather(make_batch(f"first:{m}", subject.universe))
    return prepared(subject.kernel, subject.operator.arguments(inputs, subject.weights))
