"""The contract between an arm and everything that knows no arm by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kernels_bench.discovery import offering
from kernels_bench.records.cases import Claims, Device

Kernel = Callable[..., Any]
"""Takes an operator's arguments in the operator's order; a kernel that can give a result of another dtype than
its inputs' takes it as the keyword ``out_dtype``."""


class PreparedKernel(ABC):
    """A kernel of which a part is done once a step for all layers, such as scheduling or masks: not timed."""

    def __call__(self, *arguments: Any) -> Any:
        """All of it, as it is verified."""
        return self.prepare(*arguments)()

    @abstractmethod
    def prepare(self, *arguments: Any) -> Callable[[], Any]:
        """Do that part, and return the rest as a function of nothing."""


def prepared(kernel: Kernel, arguments: Sequence[Any]) -> Callable[[], Any]:
    """The kernel's call on some arguments, as it is timed.

    Of one that has a method ``prepare``, such as a `PreparedKernel`, what that does is outside.
    """
    prepare = getattr(kernel, "prepare", None)
    call: Callable[[], Any] = prepare(*arguments) if prepare is not None else partial(kernel, *arguments)
    return call


class Unsupported(Exception):  # noqa: N818 - an answer, not an error
    """Raised by a kernel for what it does not offer; the case ends as ``unsupported(reason)``."""


class WrongResult(Exception):  # noqa: N818 - a finding about the kernel, not an error of ours
    """Raised by a kernel that sees itself that its result is wrong, such as ranks that do not agree; says how."""


def _nothing() -> str:
    return ""


def _available(device: Device) -> str | None:
    return None


def _no_caveat(device: Device) -> str:
    return ""


@dataclass(frozen=True)
class Candidate:
    """One way, of several that an arm has, to compute some operators: a tile, say.

    It is chosen as ``ARM[LABEL]``, in an arm's place, and runs in the arm's process.

    Attributes:
        kernels: called once in that process; gives a kernel for each operator that it offers.
        offers: these operators.
        dtypes: of inputs that it is for; all of them where there are none.
        order: what it is meant to add in, in any words: `plan` tries the fastest ones of each order.  What is said here
            proves nothing; which candidates have the same bits is seen.
    """

    kernels: Callable[[], Mapping[str, Kernel]]
    offers: Collection[str]
    dtypes: Collection[str] = ()
    order: str = ""


def _no_candidates(device: Device) -> Mapping[str, Candidate]:
    return {}


@dataclass(frozen=True)
class Arm:
    """One implementation of some operators, run in a process of its own.

    Attributes:
        name: as users type it.
        kernels: called once in the arm's process; gives a kernel for each operator that the arm offers.
        claims: the relations that the arm says of itself it keeps, so that to break them is a failure: all of them
            but those that are claimed by their names alone, none, or those named.
        summary: one line for ``--list``.
        environment: set in the arm's process before anything is imported.
        unavailable: why the arm cannot run on a device, or None; called without loading the arm.
        provenance: which version and path was used; called after `kernels`.
        caveat: what a reader of this arm's results on a device must know, or nothing.
        compiles: kernels are compiled for a GPU when they are first used, so that a second process saves time.
        offers: operators that it has; None where that is known only once it is loaded.
        default_for: operators of which it is the default kernel, that the others' speeds are compared with; of
            operators that no arm names it is ``torch``.
        precision: what its kernels compute with where that is less than their inputs' dtype, one of `STATED_PRECISIONS`
            or a unit roundoff: so much further may its results be from float64 before they are called wrong.
        candidates: further kernels that `plan` may choose, by label, on a device; called without loading the arm.
        lacking: which candidates there are not on a device, and how they are had, or nothing.
        brief: operators over which it takes long: they are measured at the first shape and precision only, unless
            shapes are asked for, and in a short run not at all, unless the arm is.
    """

    name: str
    kernels: Callable[[], Mapping[str, Kernel]]
    claims: bool | Collection[str] = True
    summary: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    unavailable: Callable[[Device], str | None] = _available
    provenance: Callable[[], str] = _nothing
    caveat: Callable[[Device], str] = _no_caveat
    compiles: bool = False
    offers: Collection[str] | None = None
    default_for: Collection[str] = ()
    brief: Collection[str] = ()
    precision: str | float = ""
    candidates: Callable[[Device], Mapping[str, Candidate]] = _no_candidates
    lacking: Callable[[Device], str] = _no_caveat


STATED_PRECISIONS: Mapping[str, float] = {
    "fp8": 2.0**-4,
    "fp8_e5m2": 2.0**-3,
    "int8": 2.0**-7,
    "fp4": 2.0**-2,
    "int4": 2.0**-3,
}
"""Unit roundoffs of the formats that quantised kernels multiply in; ``fp8`` is e4m3, of integers it is half a step."""


def unit_roundoff(arm: Arm) -> float:
    """The unit roundoff of the precision that an arm states; 0 where it states none."""
    return STATED_PRECISIONS.get(arm.precision, 0.0) if isinstance(arm.precision, str) else float(arm.precision)


def claims_of(arm: Arm) -> Claims:
    """The relations that an arm says of itself it keeps, as records hold them."""
    return arm.claims if isinstance(arm.claims, bool) else tuple(arm.claims)


def arms() -> dict[str, Arm]:
    """The arms that come with samebits: ``torch``, which the others are compared with, then in the order of names."""
    files = offering(__package__, "ARM", "ARMS")
    found = [arm for file in files for arm in (getattr(file, "ARMS", None) or (file.ARM,))]
    return {arm.name: arm for arm in sorted(found, key=lambda arm: (arm.name != "torch", arm.name))}
