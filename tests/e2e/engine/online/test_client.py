"""A server's client: servers on this machine are not asked through a proxy."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from e2e.engine.online.transport import is_loopback
from support.processes import environment


class Echo(BaseHTTPRequestHandler):
    """Answers with what was asked for: of a proxy that is a whole address."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def echo() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


ASK = """
import sys, urllib.request
from e2e.engine.online.transport import opened
print(opened(urllib.request.Request(sys.argv[1]), 20).read().decode())
"""


def asked(url: str, proxy: int) -> str:
    variables = environment(http_proxy=f"http://127.0.0.1:{proxy}", no_proxy="", NO_PROXY="")
    command = [sys.executable, "-c", ASK, url]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.strip()


def test_a_server_on_this_machine_is_not_asked_through_a_proxy(echo: int) -> None:
    assert asked(f"http://127.0.0.1:{echo}/health", proxy=9) == "/health"
    assert asked(f"http://localhost:{echo}/health", proxy=9) == "/health"
    assert asked("http://elsewhere.invalid/health", proxy=echo) == "http://elsewhere.invalid/health"


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *(("127.0.0.1", True), ("127.9.9.9:80", True), ("[::1]:80", True), ("LOCALHOST", True)),
        *(("10.0.0.1", False), ("localhost.example", False), ("127.0.0.1.example", False), ("[fe80::1]", False)),
    ],
)
def test_loopback_addresses_are_this_machines(host: str, own: bool) -> None:
    assert is_loopback(f"http://{host}/v1") == own
