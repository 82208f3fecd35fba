"""What an operator takes and gives, by its schema: its inputs, what it writes into, and what it only looks at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any

EMPTY = ("empty", "new_empty")
"""Operators that make memory which nothing has written yet begin so."""

READS_STATE = ("vllm::unified_", "vllm::gdn", "vllm::mamba", "vllm::linear_attention", "vllm::short_conv")
"""Operators that find a layer's state by the layer's name, so that their arguments are not all that they take."""


_PLAIN = (int, float, str, bytes)
"""Most of what a call takes beside tensors, in which there are none."""


def tensors_in(value: Any) -> Iterator[Any]:
    """The tensors of a value, through sequences, mappings and dataclasses, in order."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif value is None or isinstance(value, _PLAIN):
        return
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from tensors_in(one)
    elif isinstance(value, Sequence):
        for one in value:
            yield from tensors_in(one)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name))


def scalars_in(value: Any) -> tuple[float | bool | str, ...]:
    """The fractions, switches and words of a call; whole numbers are mostly sizes, which batches change."""
    if isinstance(value, float | bool | str):
        return (value,)
    if value is None or isinstance(value, int):
        return ()
    if isinstance(value, Mapping):
        return tuple(found for one in value.values() for found in scalars_in(one))
    if isinstance(value, list | tuple):
        return tuple(found for one in value for found in scalars_in(one))
    return ()


def name_of(operator: Any) -> str:
    """As people call it: ``aten.mul``, ``_C.rms_norm``; the overload is left out."""
    return str(operator._schema.name).replace("::", ".")


@lru_cache(maxsize=4096)
def written_arguments(operator: Any) -> tuple[tuple[int, str], ...]:
    """Place and name of each argument that an operator writes into."""
    arguments = enumerate(operator._schema.arguments)
    return tuple((at, one.name) for at, one in arguments if one.alias_info is not None and one.alias_info.is_write)


@lru_cache(maxsize=4096)
def only_looks(operator: Any) -> bool:
    """Whether an operator may give a view of what it takes, and writes nothing."""
    schema = operator._schema
    return not written_arguments(operator) and any(
        one.alias_info is not None for one in (*schema.arguments, *schema.returns)
    )


@lru_cache(maxsize=4096)
def makes_empty(operator: Any) -> bool:
    """Whether an operator makes memory that nothing has written yet."""
    return str(operator._schema.name.partition("::")[2]).startswith(EMPTY)


@lru_cache(maxsize=4096)
def reads_state(operator: Any) -> bool:
    """Whether an operator finds what it takes by a layer's name too."""
    return str(operator._schema.name).startswith(READS_STATE)


def written(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """The tensors that a call writes into."""
    found: list[Any] = []
    for at, name in written_arguments(operator):
        value = args[at] if at < len(args) else kwargs.get(name)
        found.extend(tensors_in(value))
    return found
