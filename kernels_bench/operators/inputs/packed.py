"""Rows that are sequences of unequal length, whose tokens are packed one after the other.

Of a universe of ``count`` rows each has ``lengths[0]`` to ``lengths[1]`` tokens; a token's identity is its row's number
times the longest length, and its place in the sequence.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.operators.base import RowTensors
from kernels_bench.operators.inputs.described import lengths_of_rows
from kernels_bench.relations.batch import Batch, Ids, ResultRows


@lru_cache(1 << 15)
def a_line_a_token(company: Batch, count: int, lengths: tuple[int, int]) -> ResultRows:
    """The lines of a batch's result, one for each token of its sequences; the same object every time."""
    rows = sequences_of(company, count, lengths)
    tokens = lengths_of_rows(count, lengths)[rows]
    ids = _token_ids(rows, count, lengths)
    flags = np.zeros(company.size, dtype=bool)
    flags[company.compared] = True
    return ResultRows(ids, np.flatnonzero(np.repeat(flags, tokens)))


def sequences_of(company: Batch, count: int, lengths: tuple[int, int]) -> Ids:
    """A batch's rows, which may be numbered from the shortest on, or in pairs of one length."""
    if not (company.serving.shortest or company.serving.paired):
        return company.rows
    tokens = lengths_of_rows(count, lengths)[:count]
    shortest_first: Ids = tokens.argsort(kind="stable")
    order = shortest_first if company.serving.shortest else _in_pairs(shortest_first, tokens)
    return order[company.rows]


def _in_pairs(shortest_first: Ids, tokens: Ids) -> Ids:
    """The same, those of one length in pairs, of every length one before each second one; those that are left last."""
    ordered = tokens[shortest_first]
    within = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    alone = (within % 2 == 0) & (within + 1 == np.bincount(ordered)[ordered])
    return shortest_first[np.argsort(np.where(alone, len(ordered), within // 2), kind="stable")]


def _token_ids(rows: Ids, count: int, lengths: tuple[int, int]) -> Ids:
    """Identity of every token of some rows, one sequence after the other."""
    tokens = lengths_of_rows(count, lengths)[rows]
    starts = np.cumsum(tokens) - tokens
    within = np.arange(int(tokens.sum())) - np.repeat(starts, tokens)
    return np.repeat(rows, tokens) * lengths[1] + within


def packed_rows(rows: Ids, count: int, lengths: tuple[int, int], tables: RowTensors) -> RowTensors:
    """Some rows' tokens, one sequence after the other, and where each begins."""
    device = tables[0].device
    ids = copy_to_device(_token_ids(rows, count, lengths), device)
    ends = np.concatenate([[0], np.cumsum(lengths_of_rows(count, lengths)[rows])])
    return *(table.index_select(0, ids) for table in tables), copy_to_device(ends.astype(np.int32), device)
