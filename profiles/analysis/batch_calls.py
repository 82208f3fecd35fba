"""The kernels of every company that a verification launched, by the company's own range."""

from __future__ import annotations

from collections.abc import Mapping

from profiles.analysis.cross_check import DOMAIN
from profiles.trace.attribution import instances, works
from profiles.trace.model import Kernel, Trace

Asked = tuple[str, str, str]
"""A case such as ``torch/mm/4096x4096/bf16``, a company's spec such as ``first:16``, and ``eager`` or ``graph``."""

_PREFIX = "company/"


def company_calls(trace: Trace) -> Mapping[Asked, tuple[Kernel, ...]]:
    """What each company's first launch ran, in the order of the starts."""
    calls: dict[Asked, tuple[Kernel, ...]] = {}
    for found in instances(trace):
        if found.label is None or found.label.domain != DOMAIN or not found.label.message.startswith(_PREFIX):
            continue
        case, spec, launch = found.label.message.removeprefix(_PREFIX).rsplit("/", 2)
        first = next(works(trace, found))
        places = sorted(range(first.start, first.stop), key=lambda place: int(trace.work.start_ns[place]))
        calls[case, spec, launch] = tuple(trace.kernels[trace.work.kernel[place]] for place in places)
    return calls
