"""What ranges are called: each message is written and read here, so that both sides always agree.

A reader gives None for a message of another kind.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

KERNELS, ENGINES, RANKS = "kernels_bench", "e2e", "ranks"
"""Domains: of kernels that are timed and verified, of engines' trials and steps, of what ranks compute together."""

REPLAY = "replay"
"""The range around what a run of kernels_bench does once more, for a profiler that records nothing before it."""

CEILING = "ceiling"
"""The range around the measurement of what the device can do at most."""

_WARM_UP = "warm-up/"
_NUMBER = re.compile(r"0|-?[1-9][0-9]*")
_TIMED = re.compile(r"(?P<arm>[^/]+)/(?P<operator>[^/]+)/(?P<shape>[^/,]+),(?P<precision>[^/,]+)/(?P<load>[^/]+)")


@dataclass(frozen=True)
class TimedRange:
    """Around the timed calls of one case at one load.

    Attributes:
        arm: who computes it.
        operator: what is computed.
        shape: its sizes, such as ``4096x12288``.
        precision: such as ``bf16`` or ``bf16:fp32``.
        load: ``M``, or ``MxLENGTH`` where rows are sequences.
    """

    arm: str
    operator: str
    shape: str
    precision: str
    load: str

    @property
    def message(self) -> str:
        """Such as ``torch/mm/4096x12288,bf16/16``."""
        return f"{self.arm}/{self.operator}/{self.shape},{self.precision}/{self.load}"

    @property
    def warm_up(self) -> str:
        """The same for what is launched before the case is timed."""
        return _WARM_UP + self.message

    @classmethod
    def read(cls, message: str) -> Self | None:
        """From the message of a timed range, or of its warm-up."""
        found = _TIMED.fullmatch(message.removeprefix(_WARM_UP))
        return cls(**found.groupdict()) if found else None


@dataclass(frozen=True)
class BatchRange:
    """Around the kernels of one batch of a verification.

    Attributes:
        case: its key, such as ``torch/mm/4096x12288/bf16``.
        spec: which rows, such as ``first:16``.
        launch: ``eager`` or ``graph``.
    """

    case: str
    spec: str
    launch: str

    _PREFIX = "company/"

    @property
    def message(self) -> str:
        """Such as ``company/torch/mm/4096x12288/bf16/first:16/eager``."""
        return f"{self._PREFIX}{self.case}/{self.spec}/{self.launch}"

    @classmethod
    def read(cls, message: str) -> Self | None:
        """From a message."""
        case, *rest = message.removeprefix(cls._PREFIX).rsplit("/", 2)
        return cls(case, *rest) if message.startswith(cls._PREFIX) and len(rest) == 2 else None


@dataclass(frozen=True)
class EngineRange:
    """Around a trial of an engine, or one of its steps.

    Attributes:
        category: ``trial``, or one that is not timed; of a step ``prefill`` or ``decode``.
        arm: how the engine was set.
        number: of the trial.
    """

    category: str
    arm: str
    number: int

    @property
    def message(self) -> str:
        """Such as ``trial/baseline/0`` and ``decode/baseline/0``."""
        return f"{self.category}/{self.arm}/{self.number}"

    @classmethod
    def read(cls, message: str) -> Self | None:
        """From a message."""
        category, _, rest = message.partition("/")
        arm, _, number = rest.rpartition("/")
        return cls(category, arm, int(number)) if arm and _NUMBER.fullmatch(number) else None


@dataclass(frozen=True)
class RankRange:
    """Around what one rank does in a call that several make together.

    Attributes:
        call: what is computed.
        group: tells these ranks from others of the same recording.
        rank: its number.
        ranks: how many there are.
    """

    call: str
    group: str
    rank: int
    ranks: int

    @property
    def message(self) -> str:
        """Such as ``all_reduce/4711.1/2/4``: the third of four ranks."""
        return f"{self.call}/{self.group}/{self.rank}/{self.ranks}"

    @classmethod
    def read(cls, message: str) -> Self | None:
        """From a message."""
        call, group, *numbers = message.split("/") if message.count("/") == 3 else ("", "")
        if not call or not all(_NUMBER.fullmatch(one) for one in numbers):
            return None
        return cls(call, group, *map(int, numbers))


RANK = "rank"
"""Around all calls of a rank that are recorded together."""


def verifying(case: str) -> str:
    """Around the verification of a case."""
    return f"verify/{case}"


def reading_order(case: str) -> str:
    """Around the reading of a case's order of addition."""
    return f"order/{case}"


def phase(name: str, arm: str) -> str:
    """Around a part of an engine's work outside its trials: ``start`` or ``alone``."""
    return f"{name}/{arm}"
