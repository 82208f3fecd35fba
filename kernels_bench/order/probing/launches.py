"""Very many launches of a few rows each, as a certificate takes where every row is a sum and a launch has few."""

from __future__ import annotations

from collections.abc import Callable

import torch

from kernels_bench.device.cuda_graph import NotCapturable, capture_graph
from kernels_bench.operators import RowTensors

RowLaunch = Callable[[RowTensors], RowTensors]
"""A launch of rows, weights being bound already; it may write into its rows and use its results' memory again."""

EAGER = 128
"""Launches up to which each is made by itself."""

GROUPED = 64
"""Launches in one CUDA graph."""

REPLAYED_FASTER = 8
"""How many replayed launches take as long as one by itself, about: a few microseconds instead of tens."""


def launched_in_turn(launch: RowLaunch, rows: RowTensors, m: int, see_time: Callable[[], None]) -> RowTensors:
    """Results of ``m`` rows a launch, one after the other, put together again.

    Args:
        launch: gets rows in memory of their own, as any caller's are: where a tensor begins may decide on the kernel.
        rows: (launches * m, …).
        m: rows of a launch.
        see_time: called now and then; what it raises ends the launches.
    """
    if rows[0].device.type != "cpu" and len(rows[0]) > EAGER * m:
        try:
            return _replayed(launch, rows, m, see_time)
        except NotCapturable:
            pass  # then one by one
    results = []
    for begin in range(0, len(rows[0]), m):
        see_time()
        results.append(_launched(launch, rows, begin, m))
    return _together(results)


def _replayed(launch: RowLaunch, rows: RowTensors, m: int, see_time: Callable[[], None]) -> RowTensors:
    """The same by replays of one graph.

    Raises:
        NotCapturable: the kernel does something that a graph cannot hold.
    """
    size = GROUPED * m
    held = tuple(tensor[:size].clone() for tensor in rows)
    graph, outputs = capture_graph(
        lambda: _together([_launched(launch, held, begin, m) for begin in range(0, size, m)]),
        warm_up=lambda: _launched(launch, held, 0, m),
    )
    results = []
    for begin in range(0, len(rows[0]), size):
        see_time()
        count = len(rows[0][begin : begin + size])
        for to, tensor in zip(held, rows, strict=True):
            to[:count].copy_(tensor[begin : begin + size])
        graph.replay()
        results.append(tuple(output[:count].clone() for output in outputs))
    return _together(results)


def _launched(launch: RowLaunch, rows: RowTensors, begin: int, m: int) -> RowTensors:
    given = tuple(tensor[begin : begin + m].clone() for tensor in rows)
    return tuple(output.clone() for output in launch(given))


def _together(results: list[RowTensors]) -> RowTensors:
    return tuple(torch.cat(part) for part in zip(*results, strict=True))
