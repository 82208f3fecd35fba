"""What is written for programs to read: JSON that every reader takes."""

from __future__ import annotations

import json
import math
from typing import Any

from profiles.run_files.record import Record


def strict_json(record: Record) -> str:
    """A record as strict JSON; what it cannot hold becomes ``"NaN"``, ``"Infinity"``, ``"-Infinity"``."""
    return json.dumps(_finite(record.model_dump(mode="python")), indent=2, allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    """A copy that strict JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
