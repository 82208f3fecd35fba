"""Rows whose results cancel: what is left is the rounding error itself, which 16 bits cannot hide either."""

from __future__ import annotations

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.inputs.rows import KINDS, bell_at
from kernels_bench.relations.batch import FIRST_IN_COMMON, IN_COMMON

_RUN = 5
"""So many tokens' values come again right after them, with opposite signs."""


def cancelling(table: torch.Tensor, count: int) -> torch.Tensor:
    """Those of ``count`` rows whose kind is ``cancelling``, as a view; a row may be several lines, such as tokens.

    Args:
        table: whose first ``count`` rows are a universe's; of packed sequences each has as many lines.
        count: of them.
    """
    return table[KINDS.index("cancelling") : count : len(KINDS)]


def without_a_state(state: torch.Tensor, count: int) -> None:
    """Some rows' states are zeros, in place: so every sequence begins, alone or beside others that do."""
    state[FIRST_IN_COMMON.narrow : count : IN_COMMON] = 0


def by_sequence(table: torch.Tensor, longest: int) -> torch.Tensor:
    """Lines of packed sequences (rows x longest, …) as (rows, longest, …), a view."""
    return table.view(-1, longest, *table.shape[1:])


def repeat_first_half(rows: torch.Tensor, sign: int) -> None:
    """Write the first half of the last dimension to the second one too, times ``sign``, in place; what is over is 0."""
    half = rows.shape[-1] // 2
    rows[..., half : 2 * half] = sign * rows[..., :half]
    rows[..., 2 * half :] = 0


def cancel_together(one: torch.Tensor, other: torch.Tensor) -> None:
    """Have the sum over a row's products cancel, in place: halves of ``one`` become alike, of ``other`` opposite."""
    repeat_first_half(one, 1)
    repeat_first_half(other, -1)


def values_in_opposite_runs(values: torch.Tensor, seed: int) -> None:
    """Values (sequences, tokens, width) over twenty binades, some tokens' followed by the opposite ones, in place.

    With equal weights the sums over the tokens up to the last of such a run have nothing left but their rounding
    errors, at a fifth of all tokens one run's values.
    """
    sequences, tokens, width = values.shape
    place = torch.arange(tokens, device=values.device)
    first = place - place // _RUN % 2 * _RUN
    ids = (torch.arange(sequences, device=values.device)[:, None] * tokens + first).flatten()
    drawn = bell_at(seed, "opposite runs", ids, width, wider=torch.ones_like(ids, dtype=torch.bool))
    sign = 1.0 - 2.0 * (place != first)
    values.copy_(drawn.view(sequences, tokens, width) * sign[:, None])
