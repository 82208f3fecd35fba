"""Planted faults: small kernels with one cause of batch variance or of wrongness each, and the same without it.

They are what tells whether the detector can be trusted: `kernels_bench.faults.score` runs it over all of them.
"""

from kernels_bench.faults.base import Fault, faults
from kernels_bench.faults.run import run_all
from kernels_bench.faults.score import Score, score
from kernels_bench.faults.score import in_words as score_in_words

__all__ = ["Fault", "Score", "faults", "run_all", "score", "score_in_words"]
