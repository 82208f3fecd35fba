"""One case's orders as a record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import torch

from kernels_bench.arms import Kernel, Unsupported
from kernels_bench.operators import Operator, RowTensors
from kernels_bench.order.batch_sweep import OrderSweep, Task, read_orders
from kernels_bench.order.probing.cancellation_prober import CancellationProber
from kernels_bench.order.probing.prober import Prober
from kernels_bench.order.probing.triple_prober import TripleProber
from kernels_bench.records.cases import Case
from kernels_bench.records.results import FoundOrder, Order


def order_of(
    case: Case, operator: Operator, kernel: Kernel, task: Task, device: torch.device
) -> tuple[Order, OrderSweep]:
    """Read a case's orders at some numbers of rows.

    Args:
        case: what is read.
        operator: the case's.
        kernel: bound to the case.
        task: at which numbers of rows, and how.
        device: where.
    """
    if not any(operator.probe_sum_count(case.shape, m) for m in task.sizes):
        reason = operator.unread or f"no terms of a sum of {operator.name} can be chosen"
        return Order(status="unsupported", reason=reason), OrderSweep()

    def launch(rows: RowTensors, weights: tuple[torch.Tensor, ...]) -> RowTensors:
        return operator.split_result(kernel(*operator.probe_arguments(rows, weights)))

    asker = CancellationProber if operator.signed else TripleProber

    def asking(m: int) -> Prober:
        return asker(operator, case.shape, case.precision, launch, m=m, device=device, seed=task.seed)

    start = time.perf_counter()
    try:
        reading = read_orders(asking, task)
    except Unsupported as reason:
        return Order(status="unsupported", reason=str(reason)), OrderSweep()
    found = _found(reading)
    order = Order(
        status=_status(reading, found),
        reason=_reason(reading),
        found=found,
        witness=_witness(reading, found),
        terms=operator.probe_terms(case.shape),
        columns=max(operator.probe_sum_count(case.shape, m) for m in task.sizes),
        launches=reading.launches,
        seconds=time.perf_counter() - start,
    )
    return order, reading


def _status(reading: OrderSweep, found: Sequence[FoundOrder]) -> Literal["proven", "variant", "unknown"]:
    if len(found) > 1 or reading.uneven:
        return "variant"
    return "proven" if found and not reading.refused else "unknown"


def _found(reading: OrderSweep) -> tuple[FoundOrder, ...]:
    sizes: dict[str, list[int]] = {}
    for m, layout in sorted(reading.layouts.items()):
        sizes.setdefault(layout.digest, []).append(m)
    words = {layout.digest: layout.words for layout in reading.distinct}
    return tuple(FoundOrder(digest=key, words=words[key], sizes=tuple(at)) for key, at in sizes.items())


def _reason(reading: OrderSweep) -> str:
    """Why nothing can be claimed at some M, the most frequent reason's first M named."""
    if not reading.refused:
        return ""
    m, reason = min(reading.refused.items())
    more = f", and {len(reading.refused) - 1} more" if len(reading.refused) > 1 else ""
    return f"at M={m}{more}: {reason}"


def _witness(reading: OrderSweep, found: Sequence[FoundOrder]) -> str:
    if reading.uneven:
        m, told = min(reading.uneven.items())
        return f"at M={m} {told}"
    if reading.mismatch is None or len(found) < 2:
        return ""
    m, where = reading.mismatch
    return f"{where} at M={m}, which has not the order of M={next(iter(reading.layouts))}"
