"""Split-K that the batch decides on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from torch import Tensor

from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.sums import by_rows, in_parts, in_sequence, matmul


def _as_they_come() -> Callable[..., Tensor]:
    """Parts joined by atomics: every call in another order."""
    calls = count()

    def mm(a: Tensor, b: Tensor) -> Tensor:
        shift = next(calls) % 8
        return matmul(in_parts(8, tuple((part + shift) % 8 for part in range(8))))()(a, b)

    return mm


def _one_split_a_gap(terms: Tensor) -> Tensor:
    return in_parts(max(1, 16 // len(terms)))(terms)


def _without_tail(terms: Tensor) -> Tensor:
    """K // 5 terms a part: what is left over is forgotten."""
    return in_parts(5)(terms[:, : terms.shape[1] // 5 * 5])


FAULTS = (
    Fault(
        name="split_k_by_rows",
        cause="split-K for batches of few rows",
        operator="mm",
        make=matmul(by_rows(in_parts(4), in_sequence, 17)),
        control=matmul(in_parts(4)),
    ),
    Fault(
        name="split_k_atomics",
        cause="parts joined by atomics, in the order in which they come (LoRA shrink)",
        operator="mm",
        make=_as_they_come,
        control=matmul(in_parts(8)),
    ),
    Fault(
        name="splits_by_batch",
        cause="as many splits as fill the processors, 16 // batch (MLA decode)",
        operator="mm",
        make=matmul(_one_split_a_gap),
        control=matmul(in_parts(16)),
    ),
    Fault(
        name="split_k_drops_the_tail",
        cause="a split that does not divide K forgets what is left over",
        operator="mm",
        make=matmul(_without_tail),
        control=matmul(in_parts(5)),
        kind="wrong",
    ),
    Fault(
        name="splits_joined_backwards",
        cause="the same split whose parts are joined in another order for large batches",
        operator="mm",
        make=matmul(by_rows(in_parts(3), in_parts(3, (2, 1, 0)), 33)),
        control=matmul(in_parts(3)),
    ),
)
