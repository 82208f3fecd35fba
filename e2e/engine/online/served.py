"""How much a server has answered since it is up, by its own count."""

from __future__ import annotations

import re

from e2e.engine.error_causes import ServerError
from profiles.run_files.record import Record


class Served(Record):
    """Answers of a server.

    A request counts once it is answered, a token at once: so a stranger's that takes longer than what is measured is
    noticed meanwhile.

    Attributes:
        requests: that were answered, or given up.
        tokens: that were generated.
    """

    requests: int
    tokens: int

    def __add__(self, other: Served) -> Served:
        """What was answered in all."""
        return Served(requests=self.requests + other.requests, tokens=self.tokens + other.tokens)

    def covers(self, other: Served) -> bool:
        """Whether this may be the other and more."""
        return self.requests >= other.requests and self.tokens >= other.tokens

    def in_words(self) -> str:
        """As a part of a sentence."""
        return f"{self.requests} requests with {self.tokens} tokens"


def served(metrics: bytes) -> Served:
    """What stands in the answer of ``/metrics``, over all engines and all ways in which answers ended.

    Raises:
        ServerError: it does not tell.
    """
    text = metrics.decode(errors="replace")
    return Served(
        requests=_sum(text, "vllm:request_success_total"),
        tokens=_sum(text, "vllm:generation_tokens_total"),
    )


def _sum(metrics: str, name: str) -> int:
    found = re.findall(rf"^{name}(?:{{.*}})? (\d+(?:\.\d+)?(?:e\+\d\d)?)$", metrics, re.MULTILINE)
    if not found:
        raise ServerError(f"the server's metrics do not tell {name}, so nobody knows whom else it has answered")
    return round(sum(map(float, found)))
