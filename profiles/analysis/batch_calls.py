"""The kernels of every company that a verification launched, by the company's own range."""

from __future__ import annotations

from collections.abc import Mapping

from profiles.instruments.range_names import KERNELS, BatchRange
from profiles.trace.attribution import instances, works
from profiles.trace.model import Kernel, Trace

Asked = tuple[str, str, str]
"""A case such as ``torch/mm/4096x4096/bf16``, a company's spec such as ``first:16``, and ``eager`` or ``graph``."""


def company_calls(trace: Trace) -> Mapping[Asked, tuple[Kernel, ...]]:
    """What each company's first launch ran, in the order of the starts."""
    calls: dict[Asked, tuple[Kernel, ...]] = {}
    for found in instances(trace):
        told = BatchRange.read(found.label.message) if found.label and found.label.domain == KERNELS else None
        if told is None:
            continue
        first = next(works(trace, found))
        places = sorted(range(first.start, first.stop), key=lambda place: int(trace.work.start_ns[place]))
        calls[told.case, told.spec, told.launch] = tuple(trace.kernels[trace.work.kernel[place]] for place in places)
    return calls
