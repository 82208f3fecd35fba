"""What is written for programs to read: JSON that every reader takes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from profiles.run_files.record import Record


def strict_json(told: Record | Sequence[Record]) -> str:
    """A record, or several, as strict JSON; what it cannot hold becomes ``"NaN"``, ``"Infinity"``, ``"-Infinity"``."""
    found = told.model_dump() if isinstance(told, Record) else [one.model_dump() for one in told]
    return json.dumps(_finite(found), indent=2, allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    """A copy that strict JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
