"""The process of one arm, started by `kernels_bench.workers.process` through `kernels_bench.workers`.

It answers one request at a time until its parent closes the connection or dies.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

import torch

from kernels_bench.arms import (
    Arm,
    Kernel,
    PluginError,
    Unsupported,
    arms,
    candidate_kernels_of,
    claims_of,
    kernels_of,
    load_plugin,
    said_by,
    unit_roundoff,
)
from kernels_bench.arms.plugins import with_plugins
from kernels_bench.arms.ranks.kernels import most_ranks
from kernels_bench.console.mistakes import told
from kernels_bench.console.text import first_line, kind_and_reason
from kernels_bench.device.detect import find_device
from kernels_bench.device.errors import device_lost, is_out_of_memory
from kernels_bench.device.kinds.known import kind_here, kind_of
from kernels_bench.device.memory import release_cached_memory
from kernels_bench.operators import Operator
from kernels_bench.order.batch_sweep import OrderSweep, Task
from kernels_bench.order.case_order import order_of
from kernels_bench.order.trees.description import outline
from kernels_bench.order.trees.expected import usual_orders
from kernels_bench.order.trees.svg import picture
from kernels_bench.order.trees.tree import Tree
from kernels_bench.records.cases import Case, Claims, Load, label_of, scale_of
from kernels_bench.records.results import ArmStart, Ceiling, Order, Rough, Timing, Verification
from kernels_bench.relations import Comparison, Setting, make_batch, relations
from kernels_bench.relations.base import EVERY, are_sequences
from kernels_bench.relations.batch import SPECIAL
from kernels_bench.relations.special_values import SPECIALS
from kernels_bench.timing.ceiling import measure_ceiling
from kernels_bench.timing.meter import Stopwatch
from kernels_bench.timing.rough import fault_of, rough_times
from kernels_bench.timing.stopwatches.host_clock import HostStopwatch
from kernels_bench.timing.timed_case import TimedCase
from kernels_bench.verification.launcher import Launcher
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest, bind
from kernels_bench.verification.subject.launched import KernelFault, MalformedResult
from kernels_bench.verification.subject.poison import poisoned_allocations
from kernels_bench.verification.verifier import Verifier
from kernels_bench.workers.catalogue import everything
from kernels_bench.workers.lifetime import requests
from kernels_bench.workers.messages import (
    LARGE_COPIES,
    AskCatalogue,
    Begun,
    Failure,
    FinishTiming,
    LoadArm,
    MeasureCeiling,
    OrderRead,
    PrepareTiming,
    ReadOrder,
    Release,
    Released,
    Reply,
    Reproduce,
    Reproduced,
    Request,
    Revisit,
    Revisited,
    Screen,
    TakeTurn,
    Turned,
    Verify,
)
from profiles.instruments.open_device import open_device
from profiles.instruments.range_names import CEILING, KERNELS, reading_order, verifying
from profiles.instruments.ranges import Ranges
from profiles.instruments.telemetry import Telemetry, TelemetryUnavailable

REPEATED_S = 3.0
"""How long a company that is compared with itself is launched again and again, until it differs."""

_MOST_GUESSES = 8
"""Trees of earlier cases that are tried: a kernel of another N or dtype often adds as many terms in the same order."""


class ArmWorker:
    """One arm's kernels, its candidates', and the subjects that are timed, by their case's key."""

    def __init__(self) -> None:
        self._kind = kind_here()
        self._device = torch.device(self._kind.type)
        self._ranges = Ranges(KERNELS)
        self._kernels: Mapping[str, Kernel] = {}
        self._plugin: str | None = None
        self._operators: Mapping[str, Operator] = {}
        self._claims: Claims = True
        self._unit = 0.0
        self._trees: dict[tuple[bool, int], list[Tree]] = {}
        self._arm: Arm | None = None
        self._of_candidates: dict[str, Mapping[str, Kernel]] = {}
        self._subjects: dict[str, KernelUnderTest] = {}
        self._timed: dict[str, TimedCase] = {}
        self._kept_stopwatch: Stopwatch | None = None
        self._kept_telemetry: Telemetry | None = None

    def answer(self, request: Request) -> Reply:
        """Do what is asked; exceptions are left to `serve`."""
        handlers: dict[type, Callable[[Any], Reply]] = {
            AskCatalogue: everything,
            LoadArm: self._load,
            Verify: self._verify,
            Revisit: self._revisit,
            ReadOrder: self._read_order,
            Reproduce: self._reproduce,
            PrepareTiming: self._prepare,
            TakeTurn: lambda asked: Turned(done=self._timing(asked.case).turn(self._stopwatch())),
            FinishTiming: self._finish,
            Screen: self._screen,
            MeasureCeiling: self._ceiling,
            Release: lambda _: self._release(),
        }
        return handlers[type(request)](request)

    def _load(self, request: LoadArm) -> ArmStart:
        start = time.perf_counter()
        plugins = [load_plugin(request.plugin)] if request.plugin else []
        arm = plugins[0].arm(request.arm) if plugins else arms()[request.arm]
        self._plugin, self._operators = request.plugin, with_plugins(plugins)
        self._claims, self._unit = claims_of(arm), unit_roundoff(arm)
        self._arm = arm
        self._kernels = self._kernels_of(lambda: kernels_of(arm, self._operators))
        if self._device.type != "cpu":
            self._kept_telemetry = _telemetry()
        return ArmStart(
            arm=arm.name,
            claims=self._claims,
            provenance="; ".join(filter(None, (said_by(arm, "provenance"), _stated(arm)))),
            pid=os.getpid(),
            seconds=time.perf_counter() - start,
        )

    def _kernels_for(self, case: Case) -> Mapping[str, Kernel]:
        """The arm's kernels, or those of the candidate that a case names, which are loaded when they are first used."""
        label = label_of(case.arm)
        if not label:
            return self._kernels
        if label not in self._of_candidates:
            arm, device = self._arm, find_device()
            assert arm is not None, "no arm was loaded"
            self._of_candidates[label] = self._kernels_of(
                lambda: candidate_kernels_of(arm, label, device, self._operators)
            )
        return self._of_candidates[label]

    def _kernels_of(self, load: Callable[[], Mapping[str, Kernel]]) -> Mapping[str, Kernel]:
        """What a function loads; a plugin that cannot give any kernels is told the line of it."""
        try:
            return load()
        except PluginError as error:
            raise PluginError(f"plugin {self._plugin}: {error}" if self._plugin else str(error)) from None
        except Exception as error:
            if self._plugin is None or isinstance(error, Unsupported) or is_out_of_memory(error):
                raise
            raise PluginError(f"plugin {self._plugin}: kernels() raises {told(error, self._plugin)}") from error

    def _verify(self, request: Verify) -> Verification:
        self._forget()
        try:
            return self._verified(request)
        finally:
            self.free()  # here, where nothing of the case is held any more

    def _verified(self, request: Verify) -> Verification:
        case = request.case
        chosen = [relations()[name] for name in request.relations]
        try:
            with self._ranges.range(verifying(case.key), category="verification"):
                subject = self._make(case, request.seed, request.universe, watched=True, lengths=request.lengths)
                verifier = Verifier(subject, request.seed, self._plugin, self._claims)
                setting = setting_of(subject, request)
                found = verifier.verify(chosen, setting, request.digest_sizes, request.more_s, limit_s=request.limit_s)
                return found if found.wrong or found.fatal else self._with_order(found, request)
        except MalformedResult:
            raise
        except KernelFault as fault:
            return Verification(case=case, status="measured", wrong=str(fault), universe=request.universe)

    def _revisit(self, request: Revisit) -> Revisited:
        subject = self._make(request.case, request.seed, request.universe, watched=False, lengths=request.lengths)
        with poisoned_allocations(self._device):
            launcher, found, special = Launcher(subject), {}, ""
            for m in request.sizes:
                if request.special and not special and m > len(SPECIAL):
                    special = launcher.digest(SPECIALS)
                if m == request.sizes[-1]:  # rows that were not met yet, in another order than when they were verified
                    launcher.start(f"reverse:{m}")
                if m in request.views:
                    subject.start(make_batch(f"first:{m}", request.universe), "view")
                found[m] = launcher.digest(f"first:{m}")
        self.free()
        return Revisited(digests=found, special_digest=special)

    def _with_order(self, found: Verification, request: Verify) -> Verification:
        """The same with the order of addition; that it cannot be read is no fault of the kernel's."""
        wanted = request.order_s and (found.verdict == "sampled" or not request.order_if_kept)
        if not wanted or not self._operators[request.case.operator].probe_sum_count(request.case.shape, 1):
            return found
        try:
            order, _ = self._orders(ReadOrder(
                case=request.case,
                seed=request.seed,
                sizes=request.sizes,
                budget_s=request.order_s,
                every=False,
            ))  # fmt: skip
        except Exception as error:  # whatever a kernel has against probes is no fault of it
            self._survive(error)
            reason = "there was no memory left to read it" if is_out_of_memory(error) else first_line(error)
            order = Order(status="unknown", reason=reason)
        return found.model_copy(update={"order": order})

    def _survive(self, error: Exception) -> None:
        """Raise an error again that the device did not survive."""
        if device_lost(self._device):
            raise error

    def _orders(self, request: ReadOrder) -> tuple[Order, OrderSweep]:
        """A case's orders, for which a usual one and the trees of earlier cases with as many terms are tried."""
        operator = self._operators[request.case.operator].for_probing(request.length, request.logits)
        seen = self._trees.setdefault((operator.signed, operator.probe_terms(request.case.shape)), [])
        guesses = (*usual_orders(operator, request.case), *seen)
        task = Task(request.sizes, request.seed, request.budget_s, guesses, request.every)
        with self._ranges.range(reading_order(request.case.key), category="order"):
            order, reading = order_of(
                request.case, operator, bind(request.case, self._kernels_for(request.case)), task, self._device
            )
        if self._device.type != "cpu":
            release_cached_memory(self._device)
        new = {tree.digest: tree for tree in [*seen, *reading.trees.values()]}
        seen[:] = list(new.values())[-_MOST_GUESSES:]
        return order, reading

    def _read_order(self, request: ReadOrder) -> OrderRead:
        self._forget()
        order, reading = self._orders(request)
        layouts = {layout.digest: layout for layout in reading.distinct}
        # Of columns in several orders the first one's is shown.
        found = [layouts[one.digest].parts[0].tree for one in order.found]
        pictures = tuple(picture(tree) for tree in found) if request.drawn else ()
        return OrderRead(order=order, outlines=tuple(tuple(outline(tree)) for tree in found), pictures=pictures)

    def _reproduce(self, request: Reproduce) -> Reproduced:
        try:
            return self._reproduced(request)
        finally:
            self.free()

    def _reproduced(self, request: Reproduce) -> Reproduced:
        subject = self._make(request.case, request.seed, request.universe, watched=True, lengths=request.lengths)
        comparison = Comparison(request.reference, request.company, request.launch, request.before)
        verifier = Verifier(subject, request.seed, self._plugin)
        # What is not repeatable may deviate in one launch of hundreds.
        again = request.reference == request.company and request.before is None
        until = time.perf_counter() + (REPEATED_S if again else 0)
        with poisoned_allocations(self._device):
            found = verifier.compare(comparison, request.relation)
            while found is None and time.perf_counter() < until:
                found = verifier.compare(comparison, request.relation)
        return Reproduced(counterexample=found, data=subject.data_digest())

    def _make(
        self,
        case: Case,
        seed: int,
        universe: int,
        watched: bool,
        length: int | None = None,
        lengths: tuple[int, ...] = (),
    ) -> KernelUnderTest:
        kernel = bind(case, self._kernels_for(case))
        subject = KernelUnderTest(
            case,
            self._operators[case.operator].with_lengths(lengths).for_length(length),
            kernel,
            seed=seed,
            universe=universe,
            device=self._device,
            watched=watched,
        )
        subject.unit = self._unit
        subject.announce_in(self._ranges)
        return subject

    def _prepare(self, request: PrepareTiming) -> Turned:
        case, load = request.case, request.load
        self._timed.pop(case.key, None)
        subject = self._subject(case, request.seed, load, request.largest_m if load.length is None else load.m)
        self._timed[case.key] = TimedCase(
            subject, load.m, self._ranges, self._kept_telemetry, request.calls, request.verified
        )
        return Turned(done=False)

    def _subject(self, case: Case, seed: int, load: Load, universe: int) -> KernelUnderTest:
        """What is timed of a case; candidates share rows and weights with the first one of the same sizes."""
        # Rows of one batch are the first ones of a larger one; of sequences the cache must not be larger than needed.
        known = self._subjects.get(case.key) or next(iter(self._subjects.values()), None)
        if (
            known is None
            or (known.case.without_arm, known.operator.length) != (case.without_arm, load.length)
            or known.universe < load.m
        ):
            self._forget()
            known = self._make(case, seed, universe, watched=False, length=load.length)
        elif known.case != case:
            known = known.with_kernel(case, bind(case, self._kernels_for(case)))
        self._subjects[case.key] = known
        return known

    def _screen(self, request: Screen) -> Rough:
        start, case = time.perf_counter(), request.case
        largest = Load(m=request.largest_m, length=request.length)
        subject = self._subject(case, request.seed, largest, request.largest_m)
        if request.timed and (fault := fault_of(subject, min(request.sizes))):
            return Rough(case=case, status="failed", reason=fault)
        # A stopwatch is calibrated once, and not while others are at work.
        found = rough_times(subject, request.sizes, self._stopwatch() if request.timed else None)
        if self._device.type != "cpu":
            release_cached_memory(self._device)
        return Rough(case=case, status="measured", us=found, seconds=time.perf_counter() - start)

    def _timing(self, case: Case) -> TimedCase:
        if case.key not in self._timed:
            raise TurnsLostError(f"the worker of {case.arm} ended between two turns of timing, which are lost with it")
        return self._timed[case.key]

    def _finish(self, request: FinishTiming) -> Timing:
        result = self._timing(request.case).result()
        del self._timed[request.case.key]
        if self._device.type != "cpu":
            release_cached_memory(self._device)
        return result

    def _stopwatch(self) -> Stopwatch:
        """Calibrated when it is first used, which is while no other arm is at work."""
        if self._kept_stopwatch is None:
            self._kept_stopwatch = stopwatch_for(self._device)
        return self._kept_stopwatch

    def _ceiling(self, request: MeasureCeiling) -> Ceiling:
        with self._ranges.range(CEILING, category="ceiling"):
            found = measure_ceiling(self._stopwatch(), self._device, request.inputs)
        self.free()
        return found

    def _release(self) -> Released:
        self._forget()
        self.free()
        return Released(kept=self._kind.reserved_bytes() - self._kind.allocated_bytes())

    def _forget(self) -> None:
        self._timed.clear()
        self._subjects.clear()

    def _forget_what_failed(self, request: Request) -> None:
        """What a request that failed was about; where candidates are timed turn by turn, the others go on."""
        if isinstance(request, PrepareTiming | TakeTurn | FinishTiming | Screen):
            self._timed.pop(request.case.key, None)
            self._subjects.pop(request.case.key, None)
        else:
            self._forget()

    def free(self) -> None:
        """Give back the device's memory that nothing uses."""
        with contextlib.suppress(RuntimeError):
            self._kind.give_back()

    def failure(self, error: BaseException, request: Request) -> Failure:
        """An error as an answer; finds out whether the device survived it."""
        if isinstance(error, Unsupported):
            return Failure(status="unsupported", reason=first_line(error))
        if isinstance(error, TurnsLostError):
            return Failure(status="failed", reason=str(error), cause="killed")
        self._forget_what_failed(request)
        if is_out_of_memory(error):
            reason = f"out of memory: {first_line(error)}"
            return Failure(status="failed", reason=reason, cause="out_of_memory", lost=device_lost(self._device))
        own = isinstance(error, (PluginError, KernelFault))
        mistake = isinstance(error, PluginError) and error.__cause__ is None  # not of something that it raised
        reason = first_line(error) if own else kind_and_reason(error)
        return Failure(status="failed", reason=reason, lost=device_lost(self._device), mistake=mistake)


class TurnsLostError(Exception):
    """What is to be gone on with was begun in an earlier process, which ended while it was idle."""


_FREE = 0.9
"""Share of the device's free memory that a batch larger than the universe may take."""
_SMALL_LARGE_BYTES = {"cuda": 128 << 20, "cpu": 256 << 20}
"""What a batch larger than the universe may take in every case, where offsets of 31 bits are not tried."""
_ALL_SIZES_BYTES = 16 << 30
"""What the batches of all M from 1 on may take together in every run, where they are looked at on a GPU."""


def _stated(arm: Arm) -> str:
    """How an arm's results are judged, where it states another precision than its inputs'."""
    return f"judged by the precision that it states, {arm.precision}" if arm.precision else ""


def setting_of(subject: KernelUnderTest, request: Verify) -> Setting:
    """What relations choose from in one case, on the subject's device."""
    case, operator = request.case, subject.operator
    on_gpu = subject.device.type != "cpu"
    row_bytes = LARGE_COPIES * operator.row_bytes(case.shape, case.precision, request.universe)
    free = kind_of(subject.device.type).free_bytes() * _FREE
    sizes = {case.shape.n, case.shape.k, *dict(case.shape.sizes).values()}
    huge = request.beyond and 0 < LARGE_COPIES * operator.huge_bytes(case.shape, case.precision) < free
    far = request.beyond and 0 < operator.far_bytes(case.shape, case.precision, request.universe) < free
    return Setting(
        universe=request.universe,
        sizes=request.sizes,
        longest=case.shape.tokens or 0,
        asked=request.asked,
        page=case.shape.page or 0,
        every=_every(row_bytes) if on_gpu and not are_sequences(operator.rows_are) else 0,
        most=int(_SMALL_LARGE_BYTES[scale_of(subject.device.type)] / max(1.0, row_bytes)),
        huge=operator.huge_rows(case.shape) if huge else 0,
        far=far,
        window=case.shape.window or 0,
        ranks=most_ranks(subject.device),
        shape_sizes=tuple(sorted(size for size in sizes if size)),
    )


def _every(row_bytes: float) -> int:
    """Up to which M all are looked at in every run: fewer of wide rows, whose others are looked at as there is time."""
    return min(EVERY, math.isqrt(int(2 * _ALL_SIZES_BYTES / max(1.0, row_bytes))))


def _telemetry() -> Telemetry | None:
    uuid = find_device().uuid
    try:
        return open_device(uuid)
    except TelemetryUnavailable as unavailable:
        print(f"no telemetry: {unavailable}", file=sys.stderr)
        return None


def serve(connection: Connection) -> None:
    """Answer requests until the parent hangs up or the device is lost."""
    worker = ArmWorker()
    for request in requests(connection):
        if isinstance(request, LoadArm) and request.plugin:
            connection.send(Begun())  # what took so long until now was torch
        try:
            reply = worker.answer(request)
        except Exception as error:
            if not isinstance(error, (Unsupported, KernelFault, PluginError)) or error.__cause__ is not None:
                sys.excepthook(type(error), error, error.__traceback__)
            reply = worker.failure(error, request)
        if isinstance(reply, Failure):
            worker.free()  # here, where no error holds what the case had any more
        connection.send(reply)
        if (isinstance(reply, Verification) and reply.fatal) or (isinstance(reply, Failure) and reply.lost):
            return


def stopwatch_for(device: torch.device) -> Stopwatch:
    """The device's stopwatch, calibrated."""
    if device.type == "cuda":
        from kernels_bench.timing.stopwatches.cuda_events import CudaStopwatch

        return CudaStopwatch()
    if device.type == "npu":
        from kernels_bench.timing.stopwatches.npu_events import NpuStopwatch

        return NpuStopwatch()
    return HostStopwatch()
