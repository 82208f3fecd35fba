"""What relations choose from in one case, on one device."""

from __future__ import annotations

import math

from kernels_bench.arms.ranks.kernels import most_ranks
from kernels_bench.device.kinds.known import kind_of
from kernels_bench.records.cases import scale_of
from kernels_bench.relations import Setting
from kernels_bench.relations.base import EVERY, are_sequences
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.workers.messages import LARGE_COPIES, Verify

_FREE = 0.9
"""Share of the device's free memory that a batch larger than the universe may take."""
_SMALL_LARGE_BYTES = {"cuda": 128 << 20, "cpu": 256 << 20}
"""What a batch larger than the universe may take in every case, where offsets of 31 bits are not tried."""
_MANY_PAGES_BYTES = 192 << 20
"""What KV caches of more than 65,536 pages may take."""
_ALL_SIZES_BYTES = 8 << 30
"""What the batches of all M from 1 on may take together in every run, where they are looked at on a GPU."""


def setting_of(subject: KernelUnderTest, request: Verify) -> Setting:
    """What relations choose from in one case, on the subject's device."""
    case, operator = request.case, subject.operator
    on_gpu = subject.device.type != "cpu"
    row_bytes = LARGE_COPIES * operator.row_bytes(case.shape, case.precision, request.universe)
    free = kind_of(subject.device.type).free_bytes() * _FREE
    sizes = {case.shape.n, case.shape.k, *dict(case.shape.sizes).values()}
    huge = request.beyond and 0 < LARGE_COPIES * operator.huge_bytes(case.shape, case.precision) < free
    far = request.beyond and 0 < operator.far_bytes(case.shape, case.precision, request.universe) < free
    return Setting(
        universe=request.universe,
        sizes=request.sizes,
        longest=case.shape.tokens or 0,
        asked=request.asked,
        page=case.shape.page or 0,
        every=_every(row_bytes) if on_gpu and not are_sequences(operator.rows_are) else 0,
        most=int(_SMALL_LARGE_BYTES[scale_of(subject.device.type)] / max(1.0, row_bytes)),
        huge=operator.huge_rows(case.shape) if huge else 0,
        far=far,
        many_pages=0 < operator.many_pages_bytes(case.shape, case.precision) <= _MANY_PAGES_BYTES,
        window=case.shape.window or 0,
        ranks=most_ranks(subject.device),
        shape_sizes=tuple(sorted(size for size in sizes if size)),
        strides=not on_gpu,
    )


def _every(row_bytes: float) -> int:
    """Up to which M all are looked at in every run: fewer of wide rows, whose others are looked at as there is time."""
    return min(EVERY, math.isqrt(int(2 * _ALL_SIZES_BYTES / max(1.0, row_bytes))))
