"""Commands that a user can copy: what shows a finding again is itself a call of kernels_bench."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from profiles.invocation import called


def command_line(*subcommand: str, options: Mapping[str, str | None]) -> str:
    """A command of kernels_bench as the user types it; options without a value are left out."""
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    return shlex.join([*called("kernels_bench"), *subcommand, *words])
