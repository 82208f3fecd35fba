"""The base of everything that is stored or sent between processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

_MOST = 1 << 64
"""Whole numbers are counts, bytes and seeds here; those of JSON may have any number of digits, which no float holds."""


class Record(BaseModel):
    """Base of everything that is stored or sent between processes: immutable, and closed to unknown fields."""

    # NaN and infinity are findings here; JSON has no numbers for them. What checks a record is made when the first of
    # its kind is: most commands need few kinds, and all of them take an eighth of a command's start.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings", defer_build=True)

    @model_validator(mode="after")
    def _counts(self) -> Self:
        for name, value in self.__dict__.items():
            if type(value) is int and not -_MOST < value < _MOST:
                raise ValueError(f"{name} is a number of more than 64 bits")
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed; what a property remembered of the original is not true of it."""
        copied = super().model_copy(update=update, deep=deep)
        for name in vars(copied).keys() - type(copied).model_fields.keys():
            del vars(copied)[name]
        return copied


def make_all_checks() -> None:
    """What checks each kind of record that is known by now, once for all processes that are forked from this one."""
    waiting: list[type[Record]] = [Record]
    while waiting:
        kind = waiting.pop()
        kind.model_rebuild()
        waiting += kind.__subclasses__()
