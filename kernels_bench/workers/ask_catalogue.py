"""What could be run here, asked of a process of its own where torch or a user's file must say."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kernels_bench.arms import PluginError
from kernels_bench.device.detect import no_driver_here, processor
from kernels_bench.records.catalogue import Catalogue
from kernels_bench.records.selection import Selection
from kernels_bench.workers.catalogue import catalogue
from kernels_bench.workers.messages import AskCatalogue, Failure
from kernels_bench.workers.process import START_TIMEOUT_S, WorkerError, WorkerProcess
from kernels_bench.workers.scratch import scratch
from profiles.errors import ExitStatus


def catalogue_of(selection: Selection, meanwhile: Callable[[], None] = lambda: None) -> Catalogue:
    """What could be run here; where torch has to be asked it takes seconds, in which ``meanwhile`` is called.

    Raises:
        WorkerError: a plugin cannot be used.
    """
    if not selection.plugin and no_driver_here():
        meanwhile()
        try:
            return catalogue(processor())
        except PluginError as error:
            raise WorkerError(str(error)) from error
    with tempfile.TemporaryDirectory(dir=scratch()) as place:
        return read_catalogue(selection.plugin, Path(place) / "catalogue.log", meanwhile, selection.timeout_s)


def read_catalogue(
    plugins: Sequence[str], log: Path, meanwhile: Callable[[], None] = lambda: None, timeout_s: float = 60.0
) -> Catalogue:
    """Ask a process of its own what could be run here, and call ``meanwhile`` before its answer is waited for.

    Plugins are imported once it has answered, and may take ``timeout_s`` for it, all together.

    Raises:
        WorkerError: the process cannot say; a plugin that does not import, say.
    """
    worker = WorkerProcess("catalogue", {}, log)
    try:
        worker.post(AskCatalogue(), START_TIMEOUT_S)
        meanwhile()
        reply = worker.wait()
        if plugins and isinstance(reply, Catalogue):  # only now, so that what happens next is the plugins' doing
            reply = _with_plugins(worker, plugins, timeout_s)
    finally:
        worker.kill()
    if isinstance(reply, Failure):
        raise WorkerError(reply.reason)
    assert isinstance(reply, Catalogue)
    return reply


def _with_plugins(worker: WorkerProcess, plugins: Sequence[str], timeout_s: float) -> Any:
    """The catalogue with some plugins' arms.

    Raises:
        WorkerError: one of them cannot be used, so that the command line is wrong.
    """
    reply = worker.ask(AskCatalogue(plugins=tuple(plugins)), timeout_s)
    if not isinstance(reply, Failure):
        return reply
    if not reply.lost:
        raise WorkerError(reply.reason, status=ExitStatus.USAGE)
    named = f"plugin {' or '.join(plugins)} does not import: {reply.reason}"
    hint = "; raise --timeout if it needs longer" if reply.cause == "no_answer" else ""
    # What was killed may have been so by somebody else, and the command line be right.
    raise WorkerError(named + hint, status=ExitStatus.INCOMPLETE if reply.cause == "killed" else ExitStatus.USAGE)
