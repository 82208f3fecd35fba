"""A server of vLLM's in a process of its own: started, waited for, ended."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Collection, Sequence

from e2e.engine.backend import Output, Prompt, has_tokenizer
from e2e.engine.error_causes import Printed, ServerError, last_words
from e2e.engine.online.client import ENDING_S, POLL_S, START_S, Client, opened
from e2e.workload.messages import StartEngine
from kernels_bench.workers.process import ended_in_words
from profiles.invocation import python

DYING_S = 15.0
"""A server without its engine ends in this time: it looks every five seconds (vLLM's launcher.py, watchdog_loop)."""


class Server(Client):
    """A server of our own, that ends with this process.

    Raises:
        ServerError: it does not come up.
    """

    def __init__(self, request: StartEngine) -> None:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        self._printed = Printed()
        self._process = subprocess.Popen(
            python("-m", "e2e.engine.online.serve", str(os.getpid()), *arguments(request, port)),
            # The server speaks to its engine as to another process, whatever offline engines do.
            env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"},
        )
        self._wait(url)
        super().__init__(url, request.model, request.options)

    def generate_staggered(
        self, prompts: Sequence[Prompt], at_once: int, watched: Collection[int] = ()
    ) -> list[Output]:
        """As of any server; of one that dies it is told how."""
        try:
            return super().generate_staggered(prompts, at_once, watched)
        except ServerError as error:
            with contextlib.suppress(subprocess.TimeoutExpired):  # without its engine it ends, if not at once
                self._process.wait(DYING_S)
            raise ServerError(self._ending() or str(error)) from error

    def close(self) -> None:
        """Let the server end by itself, so that a profiler gets to write what it recorded of it."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it ends with this process then
            self._process.wait(ENDING_S)

    def _wait(self, url: str) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if ending := self._ending():
                raise ServerError(ending)
            try:
                opened(urllib.request.Request(f"{url}/health"), POLL_S).close()
            except ServerError:
                time.sleep(POLL_S)
            else:
                return
        raise ServerError(f"the server was not ready within {START_S:g} s")

    def _ending(self) -> str:
        """How the server ended, with its last words; nothing while it runs."""
        code = self._process.poll()
        if code is None:
            return ""
        words = last_words(self._printed.text())
        return f"the server {ended_in_words(code)}" + (f"; its last words: {words}" if words else "")


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
