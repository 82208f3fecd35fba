"""vLLM as a server: ``vllm serve`` on loopback, asked through its OpenAI-compatible API by many clients at once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from e2e.engine import Output, Prompt
from e2e.offline import has_tokenizer, sampling
from e2e.prompts import NEEDLE_TEXT
from e2e.protocol import StartEngine

START_S, POLL_S, ANSWER_S = 1800.0, 0.5, 1800.0


class ServerError(Exception):
    """A server that does not come up, or does not answer; the message says why."""


class Server:
    """A server that ends with this process; see `e2e.engine.Backend`.

    Raises:
        ServerError: it does not come up.
    """

    def __init__(self, request: StartEngine) -> None:
        self._options, self._model = request.options, request.model
        port = _free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "e2e.serve", str(os.getpid()), *arguments(request, port)],
            # The server speaks to its engine as to another process, whatever offline engines do.
            env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"},
        )
        self._wait()
        self.provenance = f"vLLM {self._get('/version')['version']}, online"
        self.vocabulary = _vocabulary(request.model)
        self.text = self._post("/tokenize", {"prompt": NEEDLE_TEXT})["tokens"] if has_tokenizer(request.model) else None

    def generate(self, prompts: Sequence[Prompt]) -> list[Output]:
        """Ask for all prompts at once, each as a request of its own."""
        with ThreadPoolExecutor(len(prompts)) as clients:
            return list(clients.map(self._ask, prompts))

    def _ask(self, prompt: Prompt) -> Output:
        asked = {"prompt": list(prompt), "logprobs": 0, "return_token_ids": True, **sampling(self._options)}
        choice = self._post("/v1/completions", asked)["choices"][0]
        return Output(tuple(choice["token_ids"]), tuple(choice["logprobs"]["token_logprobs"]))

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerError(f"the server ended with status {self._process.returncode}")
            try:
                urllib.request.urlopen(f"{self._url}/health", timeout=POLL_S).close()
            except OSError:
                time.sleep(POLL_S)
            else:
                return
        raise ServerError(f"the server was not ready within {START_S:g} s")

    def _get(self, path: str) -> Any:
        return _answer(urllib.request.Request(self._url + path))

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        data = json.dumps({"model": self._model, **body}).encode()
        headers = {"Content-Type": "application/json"}
        return _answer(urllib.request.Request(self._url + path, data=data, headers=headers))


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


def _answer(request: urllib.request.Request) -> Any:
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as reply:
            return json.loads(reply.read())
    except urllib.error.HTTPError as error:
        said = error.read(2000).decode(errors="replace")
        raise ServerError(f"{request.selector}: status {error.code}: {said}") from error
    except OSError as error:
        raise ServerError(f"{request.selector}: {error}") from error


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _vocabulary(model: str) -> int:
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(model).get_text_config().vocab_size)
