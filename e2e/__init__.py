"""The needle benchmark over the real vLLM engine: what batch invariance costs, and whether the needle's bits hold.

``python -m e2e`` on the command line; `run_benchmark_with_batch_invariant` from Python.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from e2e.api import run_benchmark_with_batch_invariant

__all__ = ["run_benchmark_with_batch_invariant"]


def __getattr__(name: str) -> Any:
    """What is offered, imported when it is first used: `e2e.__main__` must come before what it looks for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from e2e.api import run_benchmark_with_batch_invariant

    return run_benchmark_with_batch_invariant
