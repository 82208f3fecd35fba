"""vLLM as a server: ``vllm serve`` on loopback, asked through its OpenAI-compatible API by many clients at once."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.request
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from e2e.engine.backend import Output, Prompt, sampling
from e2e.engine.error_causes import ServerError
from e2e.engine.online.replies import Event, Models, Release, Tokenized, parted, read
from e2e.engine.online.transport import lines, opened, whole
from e2e.engine.step_ranges import OnStep
from e2e.workload.options import Options
from e2e.workload.prompts import NEEDLE_TEXT

_COMMON_VOCABULARY = 32000
"""Token ids that every common model has."""

_MESSAGE_BYTES, _TOKEN_BYTES = 1 << 16, 1 << 11
"""As much of an answer as is read for itself, and for each token of it and of its prompt: vLLM sends some 500."""


class Client:
    """Asks a server that is up; see `e2e.engine.worker.Backend`.

    Args:
        url: where it listens, without ``/v1``.
        model: the name it serves; None takes the first that it names.
        options: how tokens are chosen.
        key: what it wants to be told before it answers; nothing where it answers everybody.

    Raises:
        ServerError: it does not answer, or cannot take prompts of these lengths.
    """

    def __init__(self, url: str, model: str | None, options: Options, key: str = "") -> None:
        self._url, self._options, self._key = url.rstrip("/").removesuffix("/v1"), options, key
        served = read(Models, self._get("/v1/models"), f"{self._url}/v1/models").data[0]
        self._model = model or served.id
        longest, wanted = served.max_model_len, options.max_prompt + options.max_tokens
        if longest is not None and longest < wanted:
            raise ServerError(f"{url} takes {longest} tokens; --max-prompt and --max-tokens are {wanted} together")
        known = _vocabulary(served.root or self._model)
        self.vocabulary = known or _COMMON_VOCABULARY
        self.provenance = f"vLLM {self._version()}, online" + ("" if known else f", token ids below {self.vocabulary}")
        self.text = self._tokenized(NEEDLE_TEXT)

    def on_step(self, begin: OnStep) -> None:
        """Nothing: a server's engine has a process of its own."""

    def check_undisturbed(self) -> None:
        """Nothing: whoever asks a server that is running has others beside him."""

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
        longest = _MESSAGE_BYTES + _TOKEN_BYTES * (len(prompt) + self._options.max_tokens)
        began, times = time.perf_counter(), []
        tokens: list[int] = []
        logprobs: list[float | None] = []  # of an echoed prompt, and of the answer
        for event in self._stream("/v1/completions", asked | sampling(self._options), longest):
            for choice in event.choices:
                logprobs += choice.logprobs.token_logprobs if choice.logprobs is not None else ()
                if choice.token_ids:
                    times.append(time.perf_counter())
                    begun.set()
                    tokens += choice.token_ids
        self._check_length(len(tokens))
        echoed, answered = parted(logprobs, len(prompt) if watched else 0, len(tokens))
        return Output(tuple(tokens), answered, times[0] - began, times[-1] - times[0], echoed)

    def _check_length(self, tokens: int) -> None:
        """See that an answer is as long as it was asked for: a needle's bits cannot be compared with half of them."""
        most = self._options.max_tokens
        if not tokens:
            raise ServerError(f"{self._url} answered nothing, or no token ids: it must be vLLM 0.26 or newer")
        if tokens > most or (tokens < most and self._options.ignore_eos):
            early = "; where answers may end early, ask with --stop-at-eos" if tokens < most else ""
            raise ServerError(f"{self._url} answered {tokens} tokens where {most} were asked for{early}")

    def _version(self) -> str:
        try:
            return read(Release, self._get("/version"), "/version").version
        except ServerError:
            return "(unknown version)"

    def _tokenized(self, text: str) -> list[int] | None:
        """None where the server has no tokenizer."""
        try:
            said = whole(self._posted("/tokenize", {"prompt": text}))
        except ServerError:
            return None
        return list(read(Tokenized, said, f"{self._url}/tokenize").tokens)

    def _get(self, path: str) -> bytes:
        return whole(urllib.request.Request(self._url + path, headers=self._headers()))

    def _posted(self, path: str, body: dict[str, Any]) -> urllib.request.Request:
        data = json.dumps({"model": self._model, **body}).encode()
        return urllib.request.Request(self._url + path, data, {"Content-Type": "application/json", **self._headers()})

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def _stream(self, path: str, body: dict[str, Any], most: int) -> Iterator[Event]:
        """The events that a server sends, as they come, until it says that these were all."""
        with opened(self._posted(path, body)) as reply:
            for line in lines(reply, most):
                said = line.removeprefix(b"data: ").strip()
                if said == b"[DONE]":
                    return
                if said:
                    event = read(Event, said, path)
                    if event.error is not None:
                        raise ServerError(f"{path}: {event.error}")
                    yield event
        raise ServerError("the server hung up in the middle of an answer: its stream has no end")


def _vocabulary(model: str) -> int | None:
    """How many token ids a model has; None where its configuration cannot be had here.

    Of a checkpoint in a directory its own file says so, without a library that takes seconds to import.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        said = json.loads((Path(model) / "config.json").read_bytes())
        parts = [said, *(part for part in said.values() if isinstance(part, dict))]
        sizes = [part["vocab_size"] for part in parts if "vocab_size" in part]
        if len(sizes) == 1 and isinstance(said.get("vocab_size"), int):
            return int(said["vocab_size"])
    try:
        from transformers import AutoConfig

        return int(AutoConfig.from_pretrained(model).get_text_config().vocab_size)
    except (ImportError, OSError, ValueError, AttributeError):
        return None
