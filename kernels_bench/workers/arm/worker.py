"""The process of one arm, started by `kernels_bench.workers.process` through `kernels_bench.workers`.

It answers one request at a time until its parent closes the connection or dies.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

from kernels_bench.arms import PluginError, Unsupported
from kernels_bench.console.text import first_line, kind_and_reason
from kernels_bench.device.errors import device_lost, is_out_of_memory
from kernels_bench.device.kinds.known import kind_here
from kernels_bench.records.cases import Case
from kernels_bench.records.results import ArmStart, Ceiling, Verification
from kernels_bench.relations import Comparison, make_batch, relations
from kernels_bench.relations.batch import SPECIAL
from kernels_bench.relations.special_values import SPECIALS
from kernels_bench.verification.launcher import Launcher
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.subject.launched import KernelFault, MalformedResult
from kernels_bench.verification.subject.poison import poisoned_allocations
from kernels_bench.verification.verifier import Verifier
from kernels_bench.workers.arm.arm_orders import ArmOrders
from kernels_bench.workers.arm.arm_timing import ArmTiming, TurnsLostError
from kernels_bench.workers.arm.fewer_rows import verified_among_its_rows
from kernels_bench.workers.arm.loaded_arm import LoadedArm
from kernels_bench.workers.arm.setting import setting_of
from kernels_bench.workers.catalogue import everything
from kernels_bench.workers.lifetime import requests
from kernels_bench.workers.messages import (
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
    Verify,
)
from profiles.instruments.range_names import KERNELS, verifying
from profiles.instruments.ranges import Ranges

REPEATED_S = 3.0
"""How long a company that is compared with itself is launched again and again, until it differs."""


class _AtHand(NamedTuple):
    """What the process has once its arm is loaded."""

    arm: LoadedArm
    timing: ArmTiming
    orders: ArmOrders


class ArmWorker:
    """Does what is asked of one arm."""

    def __init__(self) -> None:
        self._kind = kind_here()
        self._device = torch.device(self._kind.type)
        self._ranges = Ranges(KERNELS)
        self._loaded: _AtHand | None = None

    @property
    def _at_hand(self) -> _AtHand:
        assert self._loaded is not None, "no arm was loaded"
        return self._loaded

    def answer(self, request: Request) -> Reply:
        """Do what is asked; exceptions are left to `serve`."""
        if isinstance(request, AskCatalogue):
            return everything(request)
        if isinstance(request, LoadArm):
            return self._load(request)
        timing = self._at_hand.timing
        handlers: dict[type, Callable[[Any], Reply]] = {
            Verify: self._verify,
            Revisit: self._revisit,
            Reproduce: self._reproduce,
            ReadOrder: self._read_order,
            PrepareTiming: timing.prepare,
            TakeTurn: timing.turn,
            FinishTiming: timing.finish,
            Screen: timing.screen,
            MeasureCeiling: self._ceiling,
            Release: lambda _: self._release(),
        }
        return handlers[type(request)](request)

    def _load(self, request: LoadArm) -> ArmStart:
        start = time.perf_counter()
        arm = LoadedArm(request, self._device, self._ranges)
        shared = (arm, self._device, self._ranges)
        self._loaded = _AtHand(arm, ArmTiming(*shared), ArmOrders(*shared))
        return ArmStart(
            arm=arm.name,
            claims=arm.claims,
            provenance=arm.provenance,
            pid=os.getpid(),
            seconds=time.perf_counter() - start,
        )

    def _verify(self, request: Verify) -> Verification:
        self._at_hand.timing.forget()
        try:
            return self._verified(request)
        finally:
            self.free()  # here, where nothing of the case is held any more

    def _verified(self, request: Verify) -> Verification:
        try:
            with self._ranges.range(verifying(request.case.key), category="verification"):
                return verified_among_its_rows(request, self._subject, self._examined)
        except MalformedResult:
            raise
        except KernelFault as fault:
            return Verification(case=request.case, status="measured", wrong=str(fault), universe=request.universe)

    def _subject(self, request: Verify) -> KernelUnderTest:
        return self._at_hand.arm.subject(
            request.case, request.seed, request.universe, watched=True, lengths=request.lengths
        )

    def _examined(self, subject: KernelUnderTest, request: Verify) -> Verification:
        arm, chosen = self._at_hand.arm, [relations()[name] for name in request.relations]
        verifier, setting = Verifier(subject, request.seed, arm.plugin, arm.claims), setting_of(subject, request)
        found = verifier.verify(chosen, setting, request.digest_sizes, request.more_s, limit_s=request.limit_s)
        return found if found.wrong or found.fatal else self._at_hand.orders.with_order(found, request)

    def _revisit(self, request: Revisit) -> Revisited:
        subject = self._at_hand.arm.subject(
            request.case, request.seed, request.universe, watched=False, lengths=request.lengths
        )
        with poisoned_allocations(self._device):
            launcher, found, special = Launcher(subject), {}, ""
            opened: dict[int, str] = {}
            for m in request.sizes:
                for one in request.opening:
                    if one < m and one not in opened:
                        opened[one] = launcher.digest(f"first:{one}")
                if request.special and not special and m > len(SPECIAL):
                    special = launcher.digest(SPECIALS)
                if m == request.sizes[-1]:  # rows that were not met yet, in another order than when they were verified
                    launcher.start(f"reverse:{m}")
                if m in request.views:
                    subject.start(make_batch(f"first:{m}", request.universe), "view")
                last = launcher.start(f"first:{m}").outputs
                found[m] = launcher.digest_of(last)
            otherwise = tuple(m for m in opened if opened[m] != launcher.digest_of(launcher.first_of(last, m)))
            after = self._in_turn(request, request.another, launcher, found) if request.another else ()
        self.free()
        return Revisited(
            digests=found, special_digest=special, opened_otherwise=otherwise, otherwise_after_another=after
        )

    def _in_turn(
        self, request: Revisit, another: Case, launcher: Launcher, found: Mapping[int, str]
    ) -> tuple[int, ...]:
        """Those M at which rows have other bits right after a call of as many of another case's, as layers take turns.

        What that case's kernel does wrong is told by its own record: it is not called any further here.
        """
        differ: list[int] = []
        try:
            other = self._at_hand.arm.subject(
                another, request.seed, request.universe, watched=False, lengths=request.lengths
            )
            for m in request.sizes:
                other.start(make_batch(f"first:{m}", request.universe))
                if launcher.digest(f"first:{m}") != found[m]:
                    differ.append(m)
        except Exception as error:
            if not (isinstance(error, Unsupported | NotImplementedError | KernelFault) or is_out_of_memory(error)):
                raise
        return tuple(differ)

    def _read_order(self, request: ReadOrder) -> OrderRead:
        self._at_hand.timing.forget()
        return self._at_hand.orders.read(request)

    def _reproduce(self, request: Reproduce) -> Reproduced:
        try:
            return self._reproduced(request)
        finally:
            self.free()

    def _reproduced(self, request: Reproduce) -> Reproduced:
        arm = self._at_hand.arm
        subject = arm.subject(request.case, request.seed, request.universe, watched=True, lengths=request.lengths)
        comparison = Comparison(request.reference, request.company, request.launch, request.before)
        verifier = Verifier(subject, request.seed, arm.plugin)
        # What is not repeatable may deviate in one launch of hundreds.
        again = request.reference == request.company and request.before is None
        until = time.perf_counter() + (REPEATED_S if again else 0)
        with poisoned_allocations(self._device):
            found = verifier.compare(comparison, request.relation)
            while found is None and time.perf_counter() < until:
                found = verifier.compare(comparison, request.relation)
        return Reproduced(counterexample=found, data=subject.data_digest())

    def _ceiling(self, request: MeasureCeiling) -> Ceiling:
        found = self._at_hand.timing.ceiling(request)
        self.free()
        return found

    def _release(self) -> Released:
        self._at_hand.timing.forget()
        self.free()
        return Released(kept=self._kind.reserved_bytes() - self._kind.allocated_bytes())

    def _forget_what_failed(self, request: Request) -> None:
        """What a request that failed was about; where candidates are timed turn by turn, the others go on."""
        if self._loaded is None:
            return
        if isinstance(request, PrepareTiming | TakeTurn | FinishTiming | Screen):
            self._loaded.timing.forget_case(request.case)
        else:
            self._loaded.timing.forget()

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
