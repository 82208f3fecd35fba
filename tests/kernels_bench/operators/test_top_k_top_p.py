"""The cut of top-k and top-p: every honest way to make it is right, however many logits are equal; others are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kernels_bench.operators import operators
from kernels_bench.operators.layers.sampling import cut

Cut = Callable[[Tensor, Tensor, Tensor], Tensor]
OPERATOR = operators()["top_k_top_p"].for_shape(operators()["top_k_top_p"].shapes[-1])


def by_sorting(logits: Tensor, k: Tensor, p: Tensor) -> Tensor:
    """As vLLM's sampler does it: of logits equal to the k-th all stay, and shares are added from the smallest on."""
    ordered, places = logits.sort(dim=1)
    least = ordered.gather(1, (ordered.shape[1] - k.long()).clamp(min=0)[:, None])
    ordered = ordered.masked_fill(ordered < least, -torch.inf)
    gone = ordered.softmax(1).cumsum(1) <= 1 - p[:, None]
    gone[:, -1] = False
    return torch.empty_like(logits).scatter_(1, places, ordered.masked_fill(gone, -torch.inf))


def exactly(logits: Tensor, k: Tensor, p: Tensor, *, last_first: bool = False) -> Tensor:
    """Just k logits stay, of equal ones the first, or the last."""
    turned = logits.flip(1) if last_first else logits
    ordered, places = turned.sort(dim=1, descending=True, stable=True)
    beyond = torch.arange(logits.shape[1]) >= k[:, None]
    shares = ordered.masked_fill(beyond, -torch.inf).softmax(1)
    gone = beyond | ((shares.cumsum(1) - shares) >= p[:, None])
    gone[:, 0] = False
    found = torch.empty_like(logits).scatter_(1, places, ordered.masked_fill(gone, -torch.inf))
    return found.flip(1) if last_first else found


def the_last_first(logits: Tensor, k: Tensor, p: Tensor) -> Tensor:
    return exactly(logits, k, p, last_first=True)


def by_shares(logits: Tensor, k: Tensor, p: Tensor) -> Tensor:
    """Of equal shares in fp32 the last stay, though their logits may not be equal."""
    shares = logits.softmax(1)
    ordered, places = shares.flip(1).sort(dim=1, descending=True, stable=True)
    places = logits.shape[1] - 1 - places
    ordered = ordered.masked_fill(torch.arange(logits.shape[1]) >= k[:, None], 0.0)
    ordered /= ordered.sum(1, keepdim=True)
    gone = (ordered == 0) | (ordered.cumsum(1) - ordered >= p[:, None])
    gone[:, 0] = False
    return torch.empty_like(logits).scatter_(1, places, logits.gather(1, places).masked_fill(gone, -torch.inf))


@st.composite
def rows(
    draw: st.DrawFn, steps: tuple[float, ...] = (0.0, 0.25, 2.0**-12, 2.0), *, apart: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, of which few or many are equal or none is near another, and what is asked of them."""
    seed, count, width = draw(st.integers(0, 1 << 20)), draw(st.integers(1, 6)), draw(st.integers(70, 300))
    made = torch.Generator().manual_seed(seed)
    step, size = draw(st.sampled_from(steps)), draw(st.sampled_from((1.0, 2.0**-10, 2.0**-18, 8.0)))
    logits = torch.randn(count, width, generator=made) * size
    if apart:
        logits = torch.stack([torch.randperm(width, generator=made) for _ in range(count)]) * 2.0**-8
    logits = (logits / step).round() * step if step else logits
    k = torch.randint(1, 65, (count,), generator=made, dtype=torch.int32)
    return logits, k, torch.rand(count, generator=made) * 0.95 + 0.05


def wrong(given_rows: tuple[Tensor, Tensor, Tensor], how: Cut) -> int:
    """How many elements are farther off than is allowed."""
    logits, k, p = given_rows
    exact = cut(logits.double(), k, p.double())
    (allowed,) = OPERATOR.tolerance(given_rows, (), (exact,), torch.float32)
    got = how(logits, k, p).double()
    off = (got != exact) & ~((got - exact).abs() <= allowed) & ~allowed.isinf()
    return int(off.sum())


@pytest.mark.parametrize("how", [by_sorting, exactly, the_last_first, by_shares])
@given(rows())
def test_every_honest_way_is_right(how: Cut, given_rows: tuple[Tensor, Tensor, Tensor]) -> None:
    assert wrong(given_rows, how) == 0


@given(rows(steps=(0.0,), apart=True))
def test_one_more_than_k_and_all_of_k_are_wrong(given_rows: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, k, p = given_rows
    whole = torch.ones_like(p)
    assert wrong((logits, k, whole), lambda logits, k, p: by_sorting(logits, k + 1, p)) == len(k)
    few = torch.full_like(p, 0.05)
    several = torch.full_like(k, 64)
    assert wrong((logits, several, few), lambda logits, k, p: by_sorting(logits, k, torch.ones_like(p))) > 0
