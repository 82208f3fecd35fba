"""In which order one arm's kernels add, case after case: trees of earlier cases are tried first."""

from __future__ import annotations

import torch

from kernels_bench.console.text import first_line
from kernels_bench.device.errors import device_lost, is_out_of_memory
from kernels_bench.device.memory import release_cached_memory
from kernels_bench.order.batch_sweep import OrderSweep, Task
from kernels_bench.order.case_order import order_of
from kernels_bench.order.trees.description import outline
from kernels_bench.order.trees.expected import usual_orders
from kernels_bench.order.trees.svg import picture
from kernels_bench.order.trees.tree import Tree
from kernels_bench.records.results import Order, Verification
from kernels_bench.workers.arm.loaded_arm import LoadedArm
from kernels_bench.workers.messages import OrderRead, ReadOrder, Verify
from profiles.instruments.range_names import reading_order
from profiles.instruments.ranges import Ranges

_MOST_GUESSES = 8
"""Trees of earlier cases that are tried: a kernel of another N or dtype often adds as many terms in the same order."""


class ArmOrders:
    """Reads the orders of one arm's cases.

    Args:
        arm: whose.
        device: where its kernels run.
        ranges: are around what is launched.
    """

    def __init__(self, arm: LoadedArm, device: torch.device, ranges: Ranges) -> None:
        self._arm, self._device, self._ranges = arm, device, ranges
        self._trees: dict[tuple[bool, int], list[Tree]] = {}

    def read(self, request: ReadOrder) -> OrderRead:
        """A case's orders, in words and pictures.

        Raises:
            Unsupported: the arm has no such kernel.
        """
        order, reading = self._orders(request)
        layouts = {layout.digest: layout for layout in reading.distinct}
        # Of columns in several orders the first one's is shown.
        found = [layouts[one.digest].parts[0].tree for one in order.found]
        pictures = tuple(picture(tree) for tree in found) if request.drawn else ()
        return OrderRead(order=order, outlines=tuple(tuple(outline(tree)) for tree in found), pictures=pictures)

    def with_order(self, found: Verification, request: Verify) -> Verification:
        """The same with the order of addition; that it cannot be read is no fault of the kernel's.

        Raises:
            Exception: any that the device did not survive.
        """
        wanted = request.order_s and (found.verdict == "sampled" or not request.order_if_kept)
        if not wanted or not self._arm.operators[request.case.operator].probe_sum_count(request.case.shape, 1):
            return found
        try:
            order, _ = self._orders(ReadOrder(
                case=request.case,
                seed=request.seed,
                sizes=request.sizes,
                budget_s=request.order_s,
                every=False,
            ))  # fmt: skip
        except Exception as error:  # whatever a kernel has against probes is no fault of it
            if device_lost(self._device):
                raise
            reason = "there was no memory left to read it" if is_out_of_memory(error) else first_line(error)
            order = Order(status="unknown", reason=reason)
        return found.model_copy(update={"order": order})

    def _orders(self, request: ReadOrder) -> tuple[Order, OrderSweep]:
        """A case's orders, for which a usual one and the trees of earlier cases with as many terms are tried."""
        operator = self._arm.operators[request.case.operator].for_probing(request.length, request.logits)
        seen = self._trees.setdefault((operator.signed, operator.probe_terms(request.case.shape)), [])
        guesses = (*usual_orders(operator, request.case), *seen)
        task = Task(request.sizes, request.seed, request.budget_s, guesses, request.every)
        with self._ranges.range(reading_order(request.case.key), category="order"):
            order, reading = order_of(request.case, operator, self._arm.kernel(request.case), task, self._device)
        if self._device.type != "cpu":
            release_cached_memory(self._device)
        new = {tree.digest: tree for tree in [*seen, *reading.trees.values()]}
        seen[:] = list(new.values())[-_MOST_GUESSES:]
        return order, reading
