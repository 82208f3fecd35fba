"""What one rank does in a search: it watches passes where its model runner is, and keeps there what came of them.

With tensor parallelism every rank has a process, a runner and rows of its own; without, there is one, in the engine's
process.  Either is asked through vLLM's ``collective_rpc``, so that nothing else of it knows how many there are.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from e2e.locate.calls.capture import NotSavedError
from e2e.locate.causes import AllApart
from e2e.locate.judging.apart import on_host
from e2e.locate.judging.graft import Comparer, Keeper, Kept
from e2e.locate.judging.kept_pass import read_pass
from e2e.locate.probing.focus import Focus
from e2e.locate.probing.probe import Probe, ProbeError
from e2e.locate.probing.record import Recorder
from e2e.locate.probing.watching import Watched
from e2e.locate.seen.rows import RowsError
from e2e.locate.seen.trace import Place, Step
from kernels_bench.workers.process import ended_in_words

ROOM = 2 << 30
"""Bytes of the needle's rows that a rank keeps for putting them back."""

_NAME = "_samebits_session"
_SOON_S = 2.0


class Facts(NamedTuple):
    """A rank's model.

    Attributes:
        paths: of all modules that are called.
        sealed: of those of them that are called in compiled form.
        unread: see `Probe.unread`.
        refused: why it cannot be looked into; empty where it can.
    """

    paths: tuple[str, ...] = ()
    sealed: frozenset[str] = frozenset()
    unread: tuple[str, ...] = ()
    refused: str = ""


class Pass(NamedTuple):
    """A pass that is to be watched.

    Attributes:
        request: how the engine's name of the needle's request begins.
        prompt: the needle's token ids.
        until: the last position of the sequence whose step is watched.
        focus: what is watched.
        company: whether it is compared with the pass alone that was watched last, or with a kept one.
        bare: whether rows are looked at as in the pass alone, and compared once both are over: then none can be put
            right, and on a GPU a pass takes a fraction more time, and not some times as much.
        put: see `Comparer`, like what follows.
        unlike: of modules.
        wanted: a call.
        kept: the file of another engine's pass that it is compared with, by distances too.
    """

    request: str
    prompt: tuple[int, ...]
    until: int
    focus: Focus
    company: bool = False
    bare: bool = False
    put: bool = False
    unlike: frozenset[str] = frozenset()
    wanted: tuple[int, Place] | None = None
    kept: Path | None = None


class Seen(NamedTuple):
    """What a rank saw of a pass.

    Attributes:
        steps: of the needle.
        apart: in company, how far its rows were from those alone; see `Comparer`.
        full: alone, whether not all of its rows could be kept.
        refused: why the needle could not be followed; empty where it could.
    """

    steps: Sequence[Step] = ()
    apart: AllApart = {}  # noqa: RUF012 - nobody writes into it
    full: bool = False
    refused: str = ""


class Session:
    """A rank's part of a search.

    Args:
        worker: vLLM's.
        packed: see `e2e.locate.calls.capture.Captured`.
        elsewhere: whether it is asked by another process, to which nothing on a device can be told.
        caches: see `Probe`.
    """

    def __init__(self, worker: Any, packed: Mapping[int, Any], *, elsewhere: bool, caches: bool) -> None:
        self._probe = Probe(worker.model_runner, worker.vllm_config, caches=caches)
        self._device = worker.model_runner.device
        self._packed, self._elsewhere = packed, elsewhere
        self._keeper = Keeper(ROOM)
        self._others: dict[Place, list[Kept]] = {}  # of another engine's pass, read once
        self._comparer: Comparer | None = None
        self._stack = ExitStack()
        self._watched: Watched | None = None

    @property
    def facts(self) -> Facts:
        """What can be watched."""
        return Facts(self._probe.paths, self._probe.sealed, self._probe.unread)

    def begin(self, asked: Pass) -> None:
        """From here on a pass is watched."""
        recorder: Recorder
        if asked.kept is not None:
            self._others = self._others or read_pass(asked.kept).kept(self._device)
            recorder = self._comparer = Comparer(self._others, asked.unlike, put=asked.put, far=True)
        elif asked.bare:
            recorder, self._comparer = Recorder(), None
        elif asked.company:
            recorder = self._comparer = Comparer(
                self._keeper.kept, asked.unlike, put=asked.put, wanted=asked.wanted, weights=self._packed
            )
        else:
            recorder = self._keeper = Keeper(ROOM)
            self._comparer = None
        watching = self._probe.watching(asked.request, asked.prompt, recorder, asked.until, asked.focus)
        self._watched = self._stack.enter_context(watching)

    def end(self) -> Seen:
        """It is over."""
        assert self._watched is not None, "no pass was begun"
        try:
            self._stack.close()
            steps = self._watched.steps
        except (ProbeError, RowsError) as error:
            return Seen(refused=str(error))
        apart = {} if self._comparer is None else self._comparer.apart
        return Seen(steps, on_host(apart) if self._elsewhere else apart, self._keeper.full)

    def save(self, file: Path, place: str) -> str | None:
        """Write the call that was wanted into a file; why it could not be, None where it was."""
        captured = None if self._comparer is None else self._comparer.captured
        if captured is None or isinstance(captured, str):
            return captured or "it was not called again"
        try:
            captured.save(file, place)
        except NotSavedError as error:
            return str(error)
        return None


class Ranks:
    """The sessions of one engine, one a rank.

    Args:
        engine: vLLM's ``LLMEngine``, whose core is in this process.
        packed: of the calls of this process, see `e2e.locate.calls.capture.Captured`.
        caches: see `Probe`.

    Raises:
        ProbeError: it cannot be looked into.
    """

    def __init__(self, engine: Any, packed: Mapping[int, Any], *, caches: bool = True) -> None:
        try:
            self._executor = engine.engine_core.engine_core.model_executor
        except AttributeError:
            raise ProbeError("the engine's core is in another process") from None
        elsewhere = not hasattr(self._executor, "driver_worker")
        with self.told_of():
            found = self._executor.collective_rpc(_begun, args=(packed, elsewhere, caches))
        if refused := next((one.refused for one in found if one.refused), ""):
            raise ProbeError(refused)
        self.count = len(found)
        self.paths: tuple[str, ...] = tuple(dict.fromkeys(path for one in found for path in one.paths))
        self.sealed = frozenset[str]().union(*(one.sealed for one in found))
        self.unread: tuple[str, ...] = found[0].unread

    def watch(self, asked: Pass, run: Callable[[], Any]) -> tuple[list[Seen], Any]:
        """Run a pass, and what every rank saw of it.

        Raises:
            ProbeError: the needle could not be followed.
        """
        self._executor.collective_rpc(_asked, args=("begin", asked))
        try:
            answer = run()
        except BaseException:
            with suppress(Exception):  # whatever ended the pass is what is to be told
                self._executor.collective_rpc(_asked, args=("end",))
            raise
        seen: list[Seen] = self._executor.collective_rpc(_asked, args=("end",))
        if refused := next((one.refused for one in seen if one.refused), ""):
            raise ProbeError(refused)
        return seen, answer

    @contextmanager
    def told_of(self) -> Iterator[None]:
        """An error in this context is told as the end of a rank's process, where it comes of that.

        Raises:
            ProbeError: a rank's process ended; which, and how.
        """
        try:
            yield
        except Exception as error:
            if ended := _ended_soon(self._executor):
                raise ProbeError(ended) from error
            raise

    def save(self, rank: int, file: Path, place: str) -> str | None:
        """Have a rank write its call into a file; see `Session.save`."""
        said: list[str | None] = self._executor.collective_rpc(_saved, args=(rank, file, place))
        return said[rank]


def _ended_soon(executor: Any) -> str:
    """Which ranks' processes ended, waiting a little: what an end cuts off may be told of before the end itself."""
    until = time.monotonic() + _SOON_S
    while not (ended := _ended(executor)) and time.monotonic() < until:
        time.sleep(_SOON_S / 40)
    return ended


def _ended(executor: Any) -> str:
    """Which ranks' processes ended, and how; empty where none did.  vLLM then ends all others with SIGTERM."""
    found = {one.rank: one.proc.exitcode for one in getattr(executor, "workers", ())}
    ended = {rank: code for rank, code in found.items() if code not in (None, 0, -signal.SIGTERM)}
    return "; ".join(f"rank {rank} {ended_in_words(code)}" for rank, code in ended.items())


def _begun(worker: Any, packed: Mapping[int, Any], elsewhere: bool, caches: bool) -> Facts:
    own = worker_itself(worker)
    try:
        session = Session(own, packed, elsewhere=elsewhere, caches=caches)
    except ProbeError as error:
        return Facts(refused=str(error))
    setattr(own, _NAME, session)
    return session.facts


def _asked(worker: Any, name: str, *args: Any) -> Any:
    return getattr(getattr(worker_itself(worker), _NAME), name)(*args)


def _saved(worker: Any, rank: int, file: Path, place: str) -> str | None:
    own = worker_itself(worker)
    return _asked(worker, "save", file, place) if own.rank == rank else None


def worker_itself(worker: Any) -> Any:
    """The worker itself, without what vLLM wraps it in."""
    return getattr(worker, "worker", worker)
