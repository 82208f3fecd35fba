"""A server of vLLM's in a process of its own: started, waited for, asked by nobody else, ended."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import time
import urllib.request
from collections.abc import Collection, Sequence

import psutil  # which vLLM needs too

from e2e.engine.backend import Output, Prompt, has_tokenizer
from e2e.engine.error_causes import Printed, ServerError, last_words
from e2e.engine.online.client import Client
from e2e.engine.online.served import Served, served
from e2e.engine.online.transport import opened
from e2e.workload.messages import StartEngine
from kernels_bench.workers.process import ended_in_words
from profiles.invocation import python

START_S, POLL_S, ENDING_S = 1800.0, 0.5, 60.0
DYING_S = 15.0
"""A server without its engine ends in this time: it looks every five seconds (vLLM's launcher.py, watchdog_loop)."""

COUNTING_S = 10.0
"""vLLM counts an answer after it has sent it, by this time at the latest."""


class Server(Client):
    """A server of our own, that ends with this process, and answers this process alone.

    What vLLM computes for one request may depend on which others are there, so a stranger's would be part of what is
    measured.  It wants a key, which is new each time and stands on no command line; and since vLLM asks for it at some
    of its addresses only, what it has answered is counted.

    Raises:
        ServerError: it does not come up.
    """

    def __init__(self, request: StartEngine) -> None:
        port, key = free_port(), secrets.token_hex(32)
        self._printed = Printed()
        self._process = subprocess.Popen(
            python("-m", "e2e.engine.online.serve", str(os.getpid()), *arguments(request, port)),
            # The server speaks to its engine as to another process, whatever offline engines do.
            env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_API_KEY": key},
        )
        self._wait(port)
        super().__init__(f"http://127.0.0.1:{port}", request.model, request.options, key)
        self._asked = Served(requests=0, tokens=0)

    def generate_staggered(
        self, prompts: Sequence[Prompt], at_once: int, watched: Collection[int] = ()
    ) -> list[Output]:
        """As of any server; of one that dies it is told how.

        Raises:
            ServerError: it does not answer, or not as it should.
        """
        try:
            found = super().generate_staggered(prompts, at_once, watched)
        except ServerError as error:
            with contextlib.suppress(subprocess.TimeoutExpired):  # without its engine it ends, if not at once
                self._process.wait(DYING_S)
            raise ServerError(self._ending() or str(error)) from error
        self._asked += Served(requests=len(found), tokens=sum(len(output.tokens) for output in found))
        return found

    def check_undisturbed(self) -> None:
        """See that the server has answered what it was asked here, and nothing else.

        Raises:
            ServerError: somebody else asked it.
        """
        deadline = time.monotonic() + COUNTING_S
        while not (found := served(self._get("/metrics"))).covers(self._asked) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        if found != self._asked:
            raise ServerError(
                f"another process asked this server: it answered {found.in_words()} where {self._asked.in_words()} "
                "were asked for here; nothing is concluded from a batch with strangers; have nobody else ask it, and "
                "go on with --resume"
            )

    def close(self) -> None:
        """Let the server end by itself, so that a profiler gets to write what it recorded of it."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it ends with this process then
            self._process.wait(ENDING_S)

    def _wait(self, port: int) -> None:
        """Until it answers; nobody else is believed who listens where it was told to, and nobody else gets the key."""
        deadline = time.monotonic() + START_S
        health = urllib.request.Request(f"http://127.0.0.1:{port}/health")
        while time.monotonic() < deadline:
            if ending := self._ending():
                raise ServerError(ending)
            with contextlib.suppress(ServerError):
                if listens(self._process.pid, port):
                    opened(health, POLL_S).close()
                    return
            time.sleep(POLL_S)
        raise ServerError(f"the server was not ready within {START_S:g} s")

    def _ending(self) -> str:
        """How the server ended, with its last words; nothing while it runs."""
        code = self._process.poll()
        if code is None:
            return ""
        signal = self._printed.killed_by()
        if signal is not None and code >= 0:  # it ends in order without its engine
            return f"the server's engine was killed by {signal}"
        words = last_words(self._printed.text())
        return f"the server {ended_in_words(code)}" + (f"; its last words: {words}" if words else "")


def listens(process: int, port: int) -> bool:
    """Whether it is this process that takes connections at a TCP port."""
    try:
        sockets = psutil.Process(process).net_connections("tcp")
    except psutil.NoSuchProcess:
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets)


def arguments(request: StartEngine, port: int) -> list[str]:
    """The server's command line."""
    options = request.options
    words = ["--model", request.model, "--host", "127.0.0.1", "--port", str(port), "--dtype", "bfloat16"]
    words += ["--max-num-seqs", str(options.batch_size), "--max-model-len", str(options.max_model_len)]
    words += ["--tensor-parallel-size", str(options.tp_size), "--seed", "0"]
    words += ["--enable-prefix-caching" if options.prefix_caching else "--no-enable-prefix-caching"]
    words += ["--enforce-eager"] if options.eager else []
    words += [] if has_tokenizer(request.model) else ["--skip-tokenizer-init"]
    if options.chunked_prefill is not None:
        words += ["--enable-chunked-prefill" if options.chunked_prefill else "--no-enable-chunked-prefill"]
    if request.on_gpu:
        words += ["--gpu-memory-utilization", str(options.gpu_memory_utilization)]
        words += ["--attention-config", json.dumps({"backend": options.backend})] if options.backend else []
    return words


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
