"""Kernels in words: short names, forms, and what differs between two calls."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from profiles.trace.model import Kernel

# CUTLASS and CuTe launch everything through entries of these names; the argument says what it is.
_ENTRIES = {"Kernel", "Kernel2", "device_kernel"}
_NAMESPACE = re.compile(r"(\w+::kernel)\b")
_ARGUMENT = re.compile(r"<\s*([A-Za-z_]\w*(?:::\w+)*)")
_TILE = re.compile(r"(?:tilesize)?(?<![\dx])(\d{1,3}x\d{1,3}(?:x\d{1,3})?)(?![\dx])")
_SPLIT = re.compile(r"split_?k(?!v)", re.IGNORECASE)


def title(kernel: Kernel) -> str:
    """A name that tells one kernel from another, as short as it can be."""
    if kernel.name == "kernel":
        found = _NAMESPACE.search(kernel.full_name)
        return found[1] if found else kernel.name
    found = _ARGUMENT.search(kernel.full_name) if kernel.name in _ENTRIES else None
    return found[1].rpartition("::")[2] if found else kernel.name


def call_in_words(kernels: Sequence[Kernel]) -> str:
    """The kernels of a call: ``a + 2 × b``."""
    runs = [(name, len(list(same))) for name, same in groupby(map(title, kernels))]
    return " + ".join(name if times == 1 else f"{times} × {name}" for name, times in runs)


def identity(kernels: Sequence[Kernel]) -> tuple[tuple[str, tuple[int, int, int], int], ...]:
    """What stays the same while only the grid grows: names with template arguments, blocks and registers."""
    return tuple((kernel.full_name, kernel.block, kernel.registers) for kernel in kernels)


def changes(before: Sequence[Kernel], after: Sequence[Kernel]) -> tuple[str, ...]:
    """What differs between two calls, a line each; empty if nothing visible does."""
    if [title(kernel) for kernel in before] != [title(kernel) for kernel in after]:
        return tuple(_other_kernels(before, after))
    return tuple(dict.fromkeys(line for pair in zip(before, after, strict=True) for line in _other_form(*pair)))


def _other_kernels(before: Sequence[Kernel], after: Sequence[Kernel]) -> Iterator[str]:
    yield f"kernel: {call_in_words(before)} → {call_in_words(after)}"
    split = [any(_SPLIT.search(title(kernel)) for kernel in kernels) for kernels in (before, after)]
    if split[0] != split[1]:
        yield f"split-K: {'yes → no' if split[0] else 'no → yes'}"
    tiles = [_tile(kernels) for kernels in (before, after)]
    if all(tiles) and tiles[0] != tiles[1]:
        yield f"tile: {tiles[0]} → {tiles[1]}"
    # Copies and fills have no grid.
    grids = [", ".join(_size(one.grid) for one in kernels if any(one.grid)) for kernels in (before, after)]
    if grids[0] != grids[1]:
        yield f"grid: {grids[0]} → {grids[1]}"


def _tile(kernels: Sequence[Kernel]) -> str:
    """The first tile that a name speaks of; empty if none does."""
    found = (_TILE.search(title(kernel).replace("_", " ")) for kernel in kernels)
    return next((match[1] for match in found if match), "")


def _other_form(before: Kernel, after: Kernel) -> Iterator[str]:
    name = title(before)
    if before.full_name != after.full_name:
        yield f"{name}: other template arguments ({_arguments_apart(before.full_name, after.full_name)})"
    if before.grid != after.grid:
        split = "split, " if before.grid[2] != after.grid[2] else ""
        yield f"{name}: {split}grid {_size(before.grid)} → {_size(after.grid)}"
    if before.block != after.block:
        yield f"{name}: block {_size(before.block)} → {_size(after.block)}"
    if before.registers != after.registers:
        yield f"{name}: registers {before.registers} → {after.registers}"


def _size(size: tuple[int, int, int]) -> str:
    return "×".join(map(str, size))


def _arguments_apart(before: str, after: str) -> str:
    """The first words in which two names differ."""
    pairs = zip(re.split(r"[<>,]\s*", before), re.split(r"[<>,]\s*", after), strict=False)
    apart = next(((a, b) for a, b in pairs if a != b), ("fewer", "more"))
    return " → ".join(part if len(part) <= 60 else f"{part[:57]}…" for part in apart)
