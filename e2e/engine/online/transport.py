"""What is sent to a server and read from it, as bytes: never more of them than an answer can have."""

from __future__ import annotations

import http.client
import ipaddress
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import IO

from e2e.engine.error_causes import ServerError
from kernels_bench.console.text import first_line

SILENCE_S = 1800.0
"""So long may a server say nothing; how long an answer may take in all is the parent's to say (``--timeout``)."""

WHOLE_BYTES = 4 << 20
"""As much as is read of an answer that comes at once; the longest, vLLM's metrics, have some hundred thousand bytes."""

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_BROKEN = (OSError, ValueError, http.client.HTTPException)
"""What Python's client raises where a server hangs up, or does not speak HTTP."""


def opened(request: urllib.request.Request, silence_s: float = SILENCE_S) -> IO[bytes]:
    """The reply of a server: of this machine's own directly, of another by the proxies that the user has set.

    Args:
        request: what is asked.
        silence_s: seconds for which nothing may come.

    Raises:
        ServerError: it does not answer, or refuses.
    """
    ask = _DIRECT.open if is_loopback(request.full_url) else urllib.request.urlopen
    try:
        reply: IO[bytes] = ask(request, timeout=silence_s)
    except urllib.error.HTTPError as error:
        said = error.read(2000).decode(errors="replace")
        raise ServerError(f"{request.full_url}: status {error.code}: {said}") from error
    except _BROKEN as error:
        reason = getattr(error, "reason", None) or first_line(error)
        raise ServerError(f"{request.full_url}: {reason}") from error
    return reply


def whole(request: urllib.request.Request) -> bytes:
    """All that a server replies.

    Raises:
        ServerError: it does not answer, refuses, hangs up, or sends more than `WHOLE_BYTES`.
    """
    with opened(request) as reply:
        try:
            found = reply.read(WHOLE_BYTES + 1)
        except _BROKEN as error:
            raise _hung_up(error) from error
    if len(found) > WHOLE_BYTES:
        raise ServerError(f"{request.full_url}: the answer has more than {WHOLE_BYTES} bytes, which no vLLM sends")
    return found


def lines(reply: IO[bytes], most: int) -> Iterator[bytes]:
    """A reply's lines, as they come.

    Args:
        reply: see `opened`.
        most: bytes that they may have together, so that neither an endless line nor endless lines fill the memory.

    Raises:
        ServerError: the server hangs up, or sends more.
    """
    left = most
    try:
        while line := reply.readline(left + 1):
            left -= len(line)
            if left < 0:
                raise ServerError(f"the server sent more than {most} bytes as one answer, which no vLLM does")
            yield line
    except _BROKEN as error:
        raise _hung_up(error) from error


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own, which no proxy could reach."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _hung_up(error: BaseException) -> ServerError:
    return ServerError(f"the server hung up in the middle of an answer: {first_line(error)}")
