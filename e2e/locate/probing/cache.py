"""A sequence's own cached keys and values, read from the engine's cache whatever its layout.

Which of a block's elements belong to which slot is not looked up but tried: while no sequence is there, each slot of
the first block, which vLLM gives to nobody, is written with ones by the layer's own function, one at a time.  What is
not zero then is that slot's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from e2e.locate.seen.digest import RawRows, array_of, bits_of


@dataclass(frozen=True)
class Layout:
    """How a layer's cache is laid out.

    Attributes:
        dim: the dimension that counts blocks.
        slots: of a block.
        owner: for each number of a block's raw bits the slot that it belongs to, ``slots`` where to none; int64.
        order: the numbers of each slot, of shape (slots, numbers of one); int64.
    """

    dim: int
    slots: int
    owner: Any
    order: Any

    def blocks(self, cache: Any, numbers: Any) -> Any:
        """The raw bits of blocks, of shape (blocks, numbers in a block)."""
        picked = cache.index_select(self.dim, numbers)
        return bits_of(picked.movedim(self.dim, 0))

    def rows(self, cache: Any, numbers: Any, first: int, end: int) -> RawRows:
        """A copy of what is cached of some of a sequence's positions, a row each.

        Args:
            cache: the layer's.
            numbers: of the sequence's blocks, int64, on the device.
            first: position.
            end: the position after the last.
        """
        low, high = first // self.slots, -(-end // self.slots)
        slots = self.slots if high > low + 1 else end - low * self.slots  # of one block no more than is needed
        order = self.order[:slots].reshape(-1)
        own = slice(first - low * self.slots, end - low * self.slots)
        if not cache.is_cpu:
            rows = self.blocks(cache, numbers[low:high])[:, order].reshape((high - low) * slots, -1)[own]
            return RawRows(rows, end - first, cache.element_size() == 1)
        taken = np.moveaxis(array_of(cache).take(numbers[low:high].numpy(), self.dim), self.dim, 0)
        bits = np.ascontiguousarray(taken).reshape(high - low, -1).view(np.uint8 if taken.itemsize == 1 else np.int16)
        rows = bits.take(order.numpy(), 1).reshape((high - low) * slots, -1)[own]
        return RawRows(rows.tobytes(), end - first, taken.itemsize == 1)

    def put(self, cache: Any, numbers: Any, bits: Any, where: Any) -> None:
        """Write raw bits back into positions of a sequence.

        Args:
            cache: the layer's.
            numbers: of the sequence's blocks.
            bits: as `blocks` gave them.
            where: of shape (blocks × slots,), whether a position is to be written.
        """
        import torch

        marked = torch.zeros(len(numbers), self.slots + 1, dtype=torch.bool, device=bits.device)
        marked[:, : self.slots] = where.reshape(len(numbers), self.slots)
        own = self.blocks(cache, numbers)
        wanted = torch.where(marked.index_select(1, self.owner), bits, own)
        moved = cache.movedim(self.dim, 0)
        shape = (len(numbers), *moved.shape[1:])
        moved.index_copy_(0, numbers, wanted.view(cache.dtype).reshape(shape))


def cache_of(layer: Any) -> Any:
    """A layer's cache; some versions of vLLM keep it in a list of one."""
    cache = getattr(layer, "kv_cache", None)
    return cache[0] if isinstance(cache, list | tuple) and len(cache) == 1 else cache


def learn(layer: Any, write: Any, blocks: int, slots: int) -> Layout | None:
    """A layer's layout, tried out while its cache is unused; None where it cannot be found so.

    Args:
        layer: vLLM's ``Attention``.
        write: its ``impl.do_kv_cache_update``.
        blocks: of the cache, as the block table counts them.
        slots: of a block.
    """
    import torch

    cache = cache_of(layer)
    if not isinstance(cache, torch.Tensor) or blocks < 2:
        return None
    for dim in (number for number, size in enumerate(cache.shape) if size == blocks):
        owner = _owner(layer, write, cache, dim, slots)
        if owner is not None:
            order = owner.argsort(stable=True)[: int((owner < slots).sum())]
            return Layout(dim, slots, owner, order.reshape(slots, -1))
    return None


def _owner(layer: Any, write: Any, cache: Any, dim: int, slots: int) -> Any:
    """Of each element of a block the slot that writes it; None where ``dim`` counts no blocks or slots differ."""
    import torch

    block, next_block = cache.select(dim, 0), cache.select(dim, 1)
    kept = block.clone(), next_block.clone()
    try:
        block.zero_()
        next_block.zero_()
        _write_ones(layer, write, cache, slots)
        if bool(block.any()) or not bool(next_block.any()):
            return None  # another dimension counts blocks
        owner = torch.full(block.shape, slots, dtype=torch.int64, device=cache.device)
        for slot in range(slots):
            block.zero_()
            _write_ones(layer, write, cache, slot)
            owner[block != 0] = slot
    finally:
        block.copy_(kept[0])
        next_block.copy_(kept[1])
    sizes = torch.bincount(owner.reshape(-1), minlength=slots + 1)[:slots]
    if int(sizes.min()) == 0 or bool((sizes != sizes[0]).any()):
        return None
    wide = max(1, cache.element_size() // 2)
    return owner.reshape(-1).repeat_interleave(wide)


def _write_ones(layer: Any, write: Any, cache: Any, slot: int) -> None:
    import torch

    def ones(width: int) -> Any:
        dtype = getattr(layer, "dtype", torch.get_default_dtype())
        return torch.ones(1, layer.num_kv_heads, width, dtype=dtype, device=cache.device)

    at = torch.tensor([slot], dtype=torch.int64, device=cache.device)
    write(layer, ones(layer.head_size), ones(getattr(layer, "head_size_v", layer.head_size)), cache, at)
