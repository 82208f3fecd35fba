"""The base of everything that is stored or sent between processes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of everything that is stored or sent between processes: immutable, and closed to unknown fields."""

    # NaN and infinity are findings here; JSON has no numbers for them.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
