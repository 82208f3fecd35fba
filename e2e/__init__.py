"""The needle benchmark over the real vLLM engine: what batch invariance costs, and whether the needle's bits hold.

``python -m e2e`` on the command line; `run_benchmark_with_batch_invariant` from Python.
"""

from e2e.api import run_benchmark_with_batch_invariant

__all__ = ["run_benchmark_with_batch_invariant"]
