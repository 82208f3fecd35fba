"""Small real servers that speak as much of vLLM's language as the needle benchmark asks of it, or break it."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = {"id": "small", "root": "/nowhere/small", "max_model_len": 4096}
GONE = (BrokenPipeError, ConnectionResetError)


class Server(ThreadingHTTPServer):
    """Answers every prompt with the same tokens and log probabilities; subclasses and fields say what it does else.

    Attributes:
        logprobs: of the answer, in place of one for each token.
        tokens: of the answer, in place of as many as were asked for.
        ends: whether the stream says that it was all.
        model: what ``/v1/models`` says of the first.
    """

    daemon_threads = True
    logprobs: Sequence[Any] | None = None
    tokens: int | None = None
    ends = True
    model: Any = MODEL

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seen: list[str] = []  # paths that were asked for

    def answers(self, asked: dict[str, Any]) -> Iterator[bytes]:
        """The stream that answers a prompt: an event for what is echoed, and one for the rest."""
        count = asked["max_tokens"] if self.tokens is None else self.tokens
        logprobs = [-0.5] * count if self.logprobs is None else self.logprobs
        if asked["echo"]:
            echoed = [None, *[-1.0] * (len(asked["prompt"]) - 1)]
            yield event({"token_ids": [], "logprobs": {"token_logprobs": echoed}})
        yield event({"token_ids": list(range(count)), "logprobs": {"token_logprobs": logprobs}})
        if self.ends:
            yield b"data: [DONE]\n\n"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: whoever asked has gone."""


def event(choice: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append(self.path)
        if self._refused():
            return
        if self.path == "/metrics" and isinstance(self.server, Own):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.server.metrics())
            return
        if self.path == "/health":
            self._say("")
            return
        self._say({"/v1/models": {"data": [self.server.model]}, "/version": {"version": "0.32.0"}}.get(self.path))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._refused():
            return
        if self.path not in ("/v1/completions", "/invocations"):
            self._say(None)
            return
        self.send_response(200)
        self.end_headers()
        for part in self.server.answers(asked):
            self.wfile.write(part)
            self.wfile.flush()

    def _refused(self) -> bool:
        """Whether who asks does not know the key."""
        wanted = isinstance(self.server, Own) and self.path.startswith("/v1")
        if not wanted or self.headers["Authorization"] == f"Bearer {self.server.key}":  # type: ignore[attr-defined]
            return False
        self.send_response(401)
        self.end_headers()
        return True

    def _say(self, what: Any) -> None:
        self.send_response(200 if what is not None else 404)
        self.end_headers()
        self.wfile.write(json.dumps(what).encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Own(Server):
    """As vLLM's own: it asks for a key at some of its addresses alone, and counts what it answers.

    Attributes:
        key: what has to be known at addresses below ``/v1``.
    """

    key = ""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.requests = self.generated = 0

    def answers(self, asked: dict[str, Any]) -> Iterator[bytes]:
        yield from super().answers(asked)
        self.requests += 1
        self.generated += asked["max_tokens"]

    def metrics(self) -> bytes:
        counts = (
            ('vllm:request_success_total{engine="0",finished_reason="stop"}', 0),
            ('vllm:request_success_total{engine="0",finished_reason="length"}', self.requests),
            ('vllm:generation_tokens_total{engine="0"}', self.generated),
        )
        return "".join(f"{name} {count:.1f}\n" for name, count in counts).encode()


class Endless(Server):
    """Its answer is one line without an end."""

    def answers(self, asked: dict[str, Any]) -> Iterator[bytes]:
        while True:
            yield b"x" * (1 << 16)


class Silent(socketserver.ThreadingTCPServer):
    """Accepts, and says nothing; or a byte a while, of an answer that never ends."""

    daemon_threads = True
    drop = b""


class _Nothing(socketserver.BaseRequestHandler):
    server: Silent

    def handle(self) -> None:
        try:
            if self.server.drop:
                self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                self.request.sendall(self.server.drop)
                time.sleep(0.1)
        except GONE:
            return


class Dripping(Silent):
    drop = b"{"


@contextmanager
def listening(kind: type[Server] | type[Silent], **fields: Any) -> Iterator[str]:
    """The URL of such a server, for as long as it is needed."""
    handler = Handler if issubclass(kind, Server) else _Nothing
    with kind(("127.0.0.1", 0), handler) as server:
        for name, value in fields.items():
            setattr(server, name, value)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
