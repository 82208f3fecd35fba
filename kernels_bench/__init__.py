"""samebits: time batch-invariant LLM kernels against the default ones and check them bit for bit.

Run it as ``python -m kernels_bench``, or from Python and pytest by the few names in ``__all__``.  The rooms, from the
ground up; each imports only those before it:

* `console`, `records`, `relations`, `device`: the terminal, what is kept, how rows meet, torch and the GPU;
* `operators`, `report`, `arms`: what is computed, how it is told, who computes it;
* `verification` and `order`, `timing`: equal bits or a counterexample, the order of a sum, how long a call takes;
* `workers` and `faults`: one process an arm, and what is planted to see whether it is found;
* `plan` and `planned`: which kernel at which M, and these kernels inside an engine;
* `commands`, `cli`: what a user asks for, in the parent process, which never imports torch;
* `testing`: the same from Python and pytest, in the user's own process.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernels_bench.operators.defined import DefinedOperator as Operator
    from kernels_bench.operators.definitions import floats, integers
    from kernels_bench.testing.checking import assert_batch_invariant, check
    from kernels_bench.testing.report import Report

__all__ = ["Operator", "Report", "assert_batch_invariant", "check", "floats", "integers"]

_PLACES = {
    "Operator": ("kernels_bench.operators.defined", "DefinedOperator"),
    "floats": ("kernels_bench.operators.definitions", "floats"),
    "integers": ("kernels_bench.operators.definitions", "integers"),
    "check": ("kernels_bench.testing.checking", "check"),
    "assert_batch_invariant": ("kernels_bench.testing.checking", "assert_batch_invariant"),
    "Report": ("kernels_bench.testing.report", "Report"),
}


def __getattr__(name: str) -> Any:
    """One of the public names, whose module is imported when it is first asked for: most load torch."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
