"""vLLM as a server: ``vllm serve`` on loopback, asked through its OpenAI-compatible API by many clients at once."""

from __future__ import annotations

import http.client
import ipaddress
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

from e2e.engine.backend import Output, Prompt, sampling
from e2e.engine.error_causes import ServerError
from e2e.engine.step_ranges import OnStep
from e2e.workload.options import Options
from e2e.workload.prompts import NEEDLE_TEXT
from kernels_bench.console.text import first_line

START_S, POLL_S, ANSWER_S, ENDING_S = 1800.0, 0.5, 1800.0, 20.0
_COMMON_VOCABULARY = 32000
"""Token ids that every common model has."""

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Client:
    """Asks a server that is up; see `e2e.engine.worker.Backend`.

    Args:
        url: where it listens, without ``/v1``.
        model: the name it serves; None takes the first that it names.
        options: how tokens are chosen.

    Raises:
        ServerError: it does not answer, or cannot take prompts of these lengths.
    """

    def __init__(self, url: str, model: str | None, options: Options) -> None:
        self._url, self._options = url.rstrip("/").removesuffix("/v1"), options
        served = self._get("/v1/models")["data"][0]
        self._model = model or served["id"]
        longest, wanted = served.get("max_model_len"), options.max_prompt + options.max_tokens
        if longest is not None and longest < wanted:
            raise ServerError(f"{url} takes {longest} tokens; --max-prompt and --max-tokens are {wanted} together")
        root = served.get("root") or self._model
        known = _vocabulary(root)
        self.vocabulary = known or _COMMON_VOCABULARY
        self.provenance = f"vLLM {self._version()}, online" + ("" if known else f", token ids below {self.vocabulary}")
        self.text = self._tokenized(NEEDLE_TEXT)

    def on_step(self, begin: OnStep) -> None:
        """Nothing: a server's engine has a process of its own."""

    def close(self) -> None:
        """Nothing: the server is somebody else's."""

    def generate(self, prompts: Sequence[Prompt], watched: Collection[int] = ()) -> list[Output]:
        """Ask for all prompts at once, each as a request of its own."""
        return self.generate_staggered(prompts, len(prompts), watched)

    def generate_staggered(
        self, prompts: Sequence[Prompt], at_once: int, watched: Collection[int] = ()
    ) -> list[Output]:
        """Answer prompts of which each after the first ``at_once`` comes when the one before it has its first token."""
        begun = [threading.Event() for _ in prompts]

        def ask(number: int) -> Output:
            """One prompt's answer, asked for in its turn."""
            if number >= at_once:
                begun[number - 1].wait()
            try:
                return self._ask(prompts[number], begun[number], number in watched)
            finally:
                begun[number].set()  # what fails must not hold up those after it

        with ThreadPoolExecutor(len(prompts)) as clients:
            return list(clients.map(ask, range(len(prompts))))

    def _ask(self, prompt: Prompt, begun: threading.Event, watched: bool) -> Output:
        """One answer, streamed, so that its first token has a time, and is announced."""
        asked = {"prompt": list(prompt), "echo": watched, "logprobs": 0, "stream": True, "return_token_ids": True}
        asked |= {"return_tokens_as_token_ids": True}  # a server without tokenizer could not name them otherwise
        began, times = time.perf_counter(), []
        tokens: list[int] = []
        logprobs: list[float | None] = []  # of an echoed prompt, whose first token has none, and of the answer
        for event in self._stream("/v1/completions", asked | sampling(self._options)):
            for choice in event["choices"]:
                if not choice.get("token_ids"):
                    continue
                times.append(time.perf_counter())
                begun.set()
                tokens += choice["token_ids"]
                logprobs += choice["logprobs"]["token_logprobs"]
        if not tokens:
            raise ServerError(f"{self._url} answered nothing, or no token ids: it must be vLLM 0.26 or newer")
        known = tuple(value for value in logprobs if value is not None)
        echoed = len(known) - len(tokens)
        return Output(tuple(tokens), known[echoed:], times[0] - began, times[-1] - times[0], known[:echoed])

    def _version(self) -> str:
        try:
            return str(self._get("/version")["version"])
        except (ServerError, KeyError):
            return "(unknown version)"

    def _tokenized(self, text: str) -> list[int] | None:
        """None where the server has no tokenizer."""
        try:
            found: list[int] = json.load(self._post("/tokenize", {"prompt": text}))["tokens"]
        except ServerError:
            return None
        return found

    def _get(self, path: str) -> Any:
        return json.load(opened(urllib.request.Request(self._url + path)))

    def _post(self, path: str, body: dict[str, Any]) -> IO[bytes]:
        data = json.dumps({"model": self._model, **body}).encode()
        headers = {"Content-Type": "application/json"}
        return opened(urllib.request.Request(self._url + path, data=data, headers=headers))

    def _stream(self, path: str, body: dict[str, Any]) -> Iterator[Any]:
        """The events that a server sends, as they come."""
        with self._post(path, body) as reply:
            for line in _lines(reply):
                said = line.decode().removeprefix("data: ").strip()
                if said and said != "[DONE]":
                    event = json.loads(said)
                    if "error" in event:
                        raise ServerError(f"{path}: {event['error']}")
                    yield event


def opened(request: urllib.request.Request, timeout_s: float = ANSWER_S) -> IO[bytes]:
    """The reply of a server: of this machine's own directly, of another by the proxies that the user has set.

    Raises:
        ServerError: it does not answer, or refuses.
    """
    ask = _DIRECT.open if is_loopback(request.full_url) else urllib.request.urlopen
    try:
        reply: IO[bytes] = ask(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        said = error.read(2000).decode(errors="replace")
        raise ServerError(f"{request.full_url}: status {error.code}: {said}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ServerError(f"{request.full_url}: {reason}") from error
    return reply


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own, which no proxy could reach."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _lines(reply: IO[bytes]) -> Iterator[bytes]:
    """A reply's lines; it may break off where the server dies."""
    try:
        yield from reply
    except (OSError, http.client.HTTPException) as error:
        raise ServerError(f"the server hung up in the middle of an answer: {first_line(error)}") from error


def _vocabulary(model: str) -> int | None:
    """How many token ids a model has; None where its configuration cannot be had here."""
    try:
        from transformers import AutoConfig

        return int(AutoConfig.from_pretrained(model).get_text_config().vocab_size)
    except (ImportError, OSError, ValueError):
        return None
