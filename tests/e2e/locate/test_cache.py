"""The cache's layout is found by trying, whatever it is; a sequence's rows are read from it and put back."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from e2e.locate.probing.cache import Layout, learn
from e2e.locate.seen.digest import digests_of

HEADS, WIDTH, BLOCKS = 2, 4, 5


@dataclass
class Layer:
    """A layer whose cache counts blocks, slots, keys and values, heads and elements in any order of dimensions."""

    order: tuple[int, ...]
    slots: int
    dtype: torch.dtype = torch.bfloat16
    num_kv_heads: int = HEADS
    head_size: int = WIDTH
    head_size_v: int = WIDTH
    kv_cache: Any = field(init=False)

    def __post_init__(self) -> None:
        sizes = (BLOCKS, self.slots, 2, HEADS, WIDTH)
        self.kv_cache = torch.zeros([sizes[dim] for dim in self.order], dtype=self.dtype)

    @property
    def plain(self) -> torch.Tensor:
        """The cache as (blocks, slots, 2, heads, elements)."""
        cache: torch.Tensor = self.kv_cache
        return cache.permute([self.order.index(dim) for dim in range(5)])

    def write(self, layer: Any, key: Any, value: Any, cache: Any, slots: Any) -> None:
        """``do_kv_cache_update``."""
        assert layer is self
        assert cache is self.kv_cache
        for at, slot in enumerate(slots.tolist()):
            self.plain[slot // self.slots, slot % self.slots] = torch.stack([key[at], value[at]])


LAYERS = st.builds(
    Layer,
    st.permutations(range(5)).map(tuple),
    st.sampled_from([3, 8]),
    st.sampled_from([torch.bfloat16, torch.float32]),
)


def filled(layer: Layer, seed: int) -> Layout:
    layout = learn(layer, layer.write, BLOCKS, layer.slots)
    assert layout is not None
    layer.plain.copy_(torch.randn(layer.plain.shape, generator=torch.Generator().manual_seed(seed)))
    return layout


def digests(layout: Layout, layer: Layer, blocks: torch.Tensor, length: int) -> Any:
    (found,) = digests_of([layout.rows(layer.kv_cache, blocks, 0, length)])
    return found


@settings(deadline=None, max_examples=60)
@given(LAYERS, st.integers(0, 1 << 20), st.data())
def test_a_positions_digest_is_of_its_own_slot_alone(layer: Layer, seed: int, data: st.DataObject) -> None:
    layout = filled(layer, seed)
    blocks = torch.tensor([3, 1])
    before = digests(layout, layer, blocks, 2 * layer.slots)
    for first, end in ((0, 1), (1, layer.slots), (layer.slots, layer.slots + 2), (1, 2 * layer.slots)):
        (some,) = digests_of([layout.rows(layer.kv_cache, blocks, first, end)])
        assert some.tolist() == before[first:end].tolist()
    assert len(set(before.tolist())) == 2 * layer.slots
    position = data.draw(st.integers(0, 2 * layer.slots - 1))
    block, slot = int(blocks[position // layer.slots]), position % layer.slots
    layer.plain[block, slot, 1, 0, 2] += 1
    layer.plain[0] = layer.plain[2] = layer.plain[4] = 7  # other sequences' blocks
    changed = digests(layout, layer, blocks, 2 * layer.slots) != before
    assert np.flatnonzero(changed).tolist() == [position]


@settings(deadline=None, max_examples=30)
@given(LAYERS, st.integers(0, 1 << 20))
def test_the_same_rows_in_other_blocks_have_the_same_digests(layer: Layer, seed: int) -> None:
    layout = filled(layer, seed)
    first = digests(layout, layer, torch.tensor([3, 1]), layer.slots + 1)
    layer.plain[[2, 4]] = layer.plain[[3, 1]]
    assert np.array_equal(digests(layout, layer, torch.tensor([2, 4]), layer.slots + 1), first)


@settings(deadline=None, max_examples=30)
@given(LAYERS, st.integers(0, 1 << 20))
def test_rows_are_put_back_where_they_are_wanted_and_nowhere_else(layer: Layer, seed: int) -> None:
    layout = filled(layer, seed)
    blocks = torch.tensor([3, 1])
    kept = layout.blocks(layer.kv_cache, blocks)
    own = layer.plain.clone()
    layer.plain.copy_(-own)
    where = torch.zeros(2 * layer.slots, dtype=torch.bool)
    where[1] = where[layer.slots] = True
    layout.put(layer.kv_cache, blocks, kept, where)
    expected = -own
    expected[3, 1], expected[1, 0] = own[3, 1], own[1, 0]
    assert torch.equal(layer.plain, expected)


def test_trying_leaves_the_cache_as_it_was() -> None:
    layer = Layer((0, 1, 2, 3, 4), 3)
    layer.plain.copy_(torch.arange(layer.plain.numel()).view(layer.plain.shape))
    before = layer.plain.clone()
    assert learn(layer, layer.write, BLOCKS, 3) is not None
    assert torch.equal(layer.plain, before)


def test_a_cache_that_is_written_elsewhere_is_not_guessed() -> None:
    layer = Layer((0, 1, 2, 3, 4), 3)
    assert learn(layer, lambda *_: None, BLOCKS, 3) is None
    assert learn(SimpleNamespace(kv_cache=None), layer.write, BLOCKS, 3) is None
