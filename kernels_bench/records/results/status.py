"""How an attempt to find something out ended."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Status = Literal["measured", "skipped", "unsupported", "failed"]

Cause = Literal["out_of_memory", "no_answer", "killed", "other"]
"""Why something was not measured, as far as it matters for what to do; ``no_answer``: not within the time given;
``killed``: its process was ended by a signal that others send, and a run that is gone on with tries again."""

Seconds = Annotated[float, Field(ge=0, lt=1e9)]
