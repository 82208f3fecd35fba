"""Kernels to which it matters how rows lie in memory, or what else runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.sums import in_sequence, matmul, pairwise, product_fault, products
from kernels_bench.operators.defined import DefinedOperator
from kernels_bench.operators.definitions import floats, integers

_LONG = 1 << 18  # cycles of a GPU


def _by_form(
    other: Callable[[Tensor], bool] = lambda _: False, weights: Callable[[Tensor], bool] = lambda _: False
) -> Callable[[], Kernel]:
    """Makes an ``mm`` that adds pairwise for rows, or weights, that lie in memory so."""

    def mm(a: Tensor, b: Tensor) -> Tensor:
        return (pairwise if other(a) or weights(b) else in_sequence)(products(a, b)).to(a.dtype)

    return lambda: mm


Workspace = dict[tuple[int, ...], Tensor]
"""Memory by the number of a part and the sizes of what lies in it."""


def _split_in(workspaces: Callable[[], Callable[[], Workspace]], fewest: int = 1) -> Callable[[], Kernel]:
    """Makes a split-K ``mm`` whose parts lie in a workspace, which is asked for in every call of enough rows."""

    def make() -> Kernel:
        workspace = workspaces()

        def mm(a: Tensor, b: Tensor) -> Tensor:
            kept, half = workspace() if len(a) >= fewest else {}, a.shape[1] // 2
            parts = []
            for part, span in enumerate((slice(None, half), slice(half, None))):
                found = in_sequence(products(a[:, span], b[span]))
                parts.append(kept.setdefault((part, *found.shape), torch.empty_like(found)))
                parts[part].copy_(found)
                let_another_come_in(a)
            return (parts[0] + parts[1]).to(a.dtype)

        return mm

    return make


def _one_for_all() -> Callable[[], Workspace]:
    kept: Workspace = {}
    return lambda: kept


def _one_a_call() -> Callable[[], Workspace]:
    return dict


def let_another_come_in(a: Tensor) -> None:
    """Take so long that a call at the same time meets this one."""
    if a.is_cuda:
        torch.cuda._sleep(_LONG)
    else:
        time.sleep(3e-4)


def _beside_larger() -> Kernel:
    """Another order where a call of more rows, whose the one semaphore is, is under way."""
    under_way: list[int] = []

    def mm(a: Tensor, b: Tensor) -> Tensor:
        larger = any(rows > len(a) for rows in under_way)
        under_way.append(len(a))
        try:
            let_another_come_in(a)
            return (pairwise if larger else in_sequence)(products(a, b)).to(a.dtype)
        finally:
            under_way.remove(len(a))

    return mm


def _negated(a: Tensor, b: Tensor) -> Tensor:
    a.neg_()
    let_another_come_in(a)
    try:
        return in_sequence(products(-a, b)).to(a.dtype)
    finally:
        a.neg_()


def _plan_in(plans: Callable[[], dict[str, int]]) -> Callable[[], Kernel]:
    """Makes an ``mm`` whose plan is written down first and looked up then, where another call may have its own."""

    def mm(a: Tensor, b: Tensor) -> Tensor:
        plan = plans()
        plan["rows"] = len(a)
        let_another_come_in(a)
        return (in_sequence if plan["rows"] == len(a) else pairwise)(products(a, b)).to(a.dtype)

    return lambda: mm


def _partials_of(workspaces: Callable[[], list[Tensor]]) -> Callable[[], Kernel]:
    """Makes a split-K ``mm`` whose parts have no sizes of their own: one of another call's does not fit."""

    def mm(a: Tensor, b: Tensor) -> Tensor:
        kept, half = workspaces(), a.shape[1] // 2
        kept[:] = [in_sequence(products(a[:, :half], b[:half]))]
        let_another_come_in(a)
        return (kept[0] + in_sequence(products(a[:, half:], b[half:]))).to(a.dtype)

    return lambda: mm


def _beside_its_columns(a: Tensor, b: Tensor) -> Tensor:
    """The tail of a vector is stored beyond the last column."""
    if a.stride(0) > a.shape[1]:
        a.as_strided((len(a), 1), a.stride(), a.storage_offset() + a.shape[1])[:-1].zero_()
    return in_sequence(products(a, b)).to(a.dtype)


_PLAN: dict[str, int] = {}
_PARTIALS: list[Tensor] = []


def _elsewhere(a: Tensor) -> bool:
    if a.is_cuda:
        return bool(torch.cuda.current_stream() != torch.cuda.default_stream())
    return threading.current_thread() is not threading.main_thread()


def _if_busy(workspaces: int) -> Callable[[], Kernel]:
    """Makes an ``mm`` that adds in another order where other calls hold all of its workspaces."""

    def make() -> Kernel:
        held = threading.Semaphore(workspaces)

        def mm(a: Tensor, b: Tensor) -> Tensor:
            free = held.acquire(blocking=False)
            try:
                let_another_come_in(a)
                return (in_sequence if free else pairwise)(products(a, b)).to(a.dtype)
            finally:
                if free:
                    held.release()

        return mm

    return make


ROWS_OF_TABLES = DefinedOperator.define(
    "planted_rows_of_tables",
    rows={"scale": floats(dtype="fp32", low=0.5, high=2.0), "ids": integers("top", high=24, dtype="int32")},
    shared={"table": (24, "d")},
    shapes={"fault": {"top": 3, "d": 8}},
    results=[floats("d", dtype="fp32")],
)


def as_if_contiguous(tensor: Tensor) -> Tensor:
    """What a kernel reads that knows of no strides."""
    return tensor.as_strided(tensor.shape, torch.empty(tensor.shape, device="meta").stride())


def _looked_up(numbers: Callable[[Tensor], Tensor], scales: Callable[[Tensor], Tensor]) -> Kernel:
    """Sums of looked-up rows, times a number a row."""

    def kernel(scale: Tensor, ids: Tensor, table: Tensor) -> Tensor:
        return in_sequence(table[numbers(ids).long()].float()) * scales(scale)[:, None]

    return kernel


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _tables_fault(name: str, cause: str, faulty: Kernel) -> Fault:
    (shape,) = ROWS_OF_TABLES.shapes
    return Fault(
        name=name,
        cause=cause,
        operator=ROWS_OF_TABLES,
        make=lambda: faulty,
        control=lambda: _looked_up(_itself, _itself),
        shape=shape,
        devices=("cpu",),  # where whole numbers are views too
    )


FAULTS = (
    product_fault("a_third_of_each_row", "rows that are three times as far apart as long are added in another order",
        _by_form(lambda a: a.stride(0) == 3 * a.shape[1])),
    _tables_fault("ids_as_if_contiguous", "whole numbers are read as if a wider tensor's rows followed one another",
        _looked_up(as_if_contiguous, _itself)),
    _tables_fault("column_as_if_contiguous", "numbers in a column of a table are read as if they followed each other",
        _looked_up(_itself, as_if_contiguous)),
    product_fault("rows_that_are_a_view", "rows of a wider tensor are added in another order",
        _by_form(lambda a: not a.is_contiguous())),
    replace(
        product_fault("some_rows_at_an_odd_address",
            "20 to 30 rows that do not begin at a multiple of 64 bytes are added in another order",
            _by_form(lambda a: 20 <= len(a) <= 30 and a.data_ptr() % 64 != 0)),
        further=("layout",)),
    product_fault("rows_at_an_odd_address",
        "rows that do not begin at a multiple of 64 bytes are added in another order",
        _by_form(lambda a: a.data_ptr() % 64 != 0)),
    product_fault("few_rows_that_are_a_view", "two to eight rows of a wider tensor are added in another order",
        _by_form(lambda a: len(a) <= 8 and not a.is_contiguous())),
    product_fault("workspace_of_two_calls", "parts of a sum lie in one workspace that calls at the same time share",
        _split_in(_one_for_all), _split_in(_one_a_call)),
    Fault(
        name="fallback_while_busy",
        cause="another kernel while the workspace is in use by another call",
        operator="mm",
        make=_if_busy(1),
        control=matmul(in_sequence),
        devices=("cpu",),
    ),
    Fault("fallback_while_two_are_busy", "another kernel while two other calls have both workspaces in use", "mm",
        _if_busy(2), matmul(in_sequence), devices=("cpu",)),
    replace(
        product_fault("workspace_of_many_rows", "from 96 rows on parts of a sum lie in one workspace for all calls",
            _split_in(_one_for_all, 96), _split_in(_one_a_call)),
        universe=129),
    Fault("split_unless_a_larger_call", "another kernel while a call of more rows is under way", "mm",
        _beside_larger, matmul(in_sequence), devices=("cpu",)),
    Fault("rows_turned_while_read", "rows are negated while they are read, which a call on the same rows sees", "mm",
        lambda: _negated, matmul(in_sequence), devices=("cpu",), kind="wrong"),
    product_fault("columns_of_a_wider_tensor",
        "rows that begin in the middle of a wider tensor's are added in another order",
        _by_form(lambda a: not a.is_contiguous() and a.storage_offset() > 0)),
    # On a GPU the host plans one call after the other.
    Fault("plan_in_a_global", "a plan is kept in a global, where a call at the same time writes its own", "mm",
        _plan_in(lambda: _PLAN), matmul(in_sequence), devices=("cpu",)),
    Fault("partials_in_a_global", "a part of a sum lies in a global, where a call of another M puts its own",
        "mm", _partials_of(lambda: _PARTIALS), _partials_of(list), devices=("cpu",)),
    product_fault("writes_beside_its_columns", "of a view, an element beside each row but the last is written",
        lambda: _beside_its_columns),
    # Of these a GPU is shown none: every slice that engines make there is aligned to 16 bytes.
    Fault("rows_of_odd_strides", "rows whose stride is no multiple of 16 elements are added in another order", "mm",
        _by_form(lambda a: a.stride(0) % 16 != 0), matmul(in_sequence), devices=("cpu",)),
    Fault("rows_32_bytes_aside", "rows that begin 32 bytes after a multiple of 64 are added in another order", "mm",
        _by_form(lambda a: a.data_ptr() % 64 == 32), matmul(in_sequence), devices=("cpu",)),
    Fault("columns_that_follow_each_other", "rows of a transposed tensor are added in another order", "mm",
        _by_form(lambda a: len(a) > 1 and a.stride(0) == 1), matmul(in_sequence), devices=("cpu",)),
    Fault("columns_apart", "rows whose columns lie apart, as gates among what they open, are added in another order",
        "mm", _by_form(lambda a: a.stride(1) == 2), matmul(in_sequence), devices=("cpu",)),
    Fault("one_row_for_all", "one row that stands for all (stride 0) is added in another order", "mm",
        _by_form(lambda a: len(a) > 1 and a.stride(0) == 0), matmul(in_sequence), devices=("cpu",)),
    Fault("weights_of_a_wider_tensor", "rows are added in another order where the weights are a slice", "mm",
        _by_form(weights=lambda b: not b.is_contiguous()), matmul(in_sequence), devices=("cpu",)),
    Fault("weights_at_an_odd_address",
        "rows are added in another order where the weights do not begin at a multiple of 16 bytes", "mm",
        _by_form(weights=lambda b: b.data_ptr() % 16 != 0), matmul(in_sequence), devices=("cpu",)),
)  # fmt: skip

UNSEEN = (
    product_fault("view_of_twelve", "twelve rows of a wider tensor are added in another order",
        _by_form(lambda a: len(a) == 12 and not a.is_contiguous())),
    product_fault("elsewhere", "calls on any stream, or thread, but the first are added in another order",
        _by_form(_elsewhere)),
)  # fmt: skip
