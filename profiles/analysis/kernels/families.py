"""Where an engine's GPU time goes: kernels by family, for every arm of an end-to-end run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from profiles.analysis.schema import ArmFamilies, FamilyDifference, FamilyTime, Phase
from profiles.instruments.range_names import ENGINES, EngineRange
from profiles.trace.attribution import gathered, instances
from profiles.trace.kernel_names import title
from profiles.trace.model import Array, Kernel, Trace

COMMUNICATION, OTHER = "communication", "other"

PATTERNS: tuple[tuple[str, str], ...] = (
    (COMMUNICATION, r"nccl|all_?reduce|all_?gather|all_?to_?all|reduce_?scatter|cross_device_reduce|multimem"),
    ("GEMM", r"moe|topkgating"),
    ("attention", r"flash|fmha|attention|attn|reshape_and_cache|concat_and_cache|paged_|mla_|rotary"),
    ("attention", r"_fwd_(?:grouped_)?kernel_stage|reduce_segments|prepare_varlen"),
    ("sampling", r"soft_?max|top_?k|top_?p|arg_?max|argmaxops|radix_?sort|bitonicsort|segmented_?sort|multinomial"),
    ("sampling", r"exponential|distribution_|gumbel|penalt|logits|_ranks_kernel|sampl"),
    ("activation", r"silu|gelu|swiglu|act_and_mul|relu|sigmoid"),
    ("normalisation", r"rms_?norm|layer_?norm|rowwisemoments|_norm_|rsqrt|mean_kernel"),
    ("GEMM", r"gemm|gemv|matmul|nvjet|cutlass|xmma|splitkreduce|cublas|scaled_mm|marlin|tensorop|bmm"),
    ("GEMM", r"\b_?(?:b|add)?mm_kernel"),
    ("copies", r"copy|fillfunctor|memcpy|memset|index_?select|index_elementwise|index_put|index_kernel|embedding"),
    ("copies", r"gather|scatter|write_indices|arange|cumsum|scan|devicereduce|deviceselect|\bcat\b"),
)
"""Families by what a kernel's full name holds, without regard to case; the first that fits decides."""

FAMILIES = (*dict.fromkeys(family for family, _ in PATTERNS), OTHER)

_COMPILED = tuple((family, re.compile(pattern, re.IGNORECASE)) for family, pattern in PATTERNS)
_PHASES: tuple[Phase, ...] = ("trial", "prefill", "decode")


def family(kernel: Kernel) -> str:
    """Which of `FAMILIES` a kernel belongs to; copies and fills of memory are copies."""
    if kernel.kind in ("copy", "fill"):
        return "copies"
    return next((name for name, pattern in _COMPILED if pattern.search(kernel.full_name)), OTHER)


@dataclass(frozen=True, eq=False)
class _Share:
    """The work of one arm in one phase: places in the trace's work, and how many ranges it comes from."""

    arm: str
    phase: Phase
    by_time: bool
    ranges: int
    places: Array


def arm_families(trace: Trace) -> tuple[ArmFamilies, ...]:
    """Of every arm whose trials the report holds, with anything that ran in them."""
    return tuple(_families(trace, share) for share in _shares(trace) if len(share.places))


def _shares(trace: Trace) -> Iterator[_Share]:
    """Work launched inside an arm's ranges; where an engine has processes of its own, work that began during them."""
    named: dict[tuple[str, Phase], list[int]] = {}
    for number, label in enumerate(trace.labels):
        told = EngineRange.read(label.message) if label.domain == ENGINES else None
        for known in _PHASES:
            if told is not None and told.category == known:
                named.setdefault((told.arm, known), []).append(number)
    within = {found.label: found for found in instances(trace)}
    for (arm, phase), labels in named.items():
        parts = [within[trace.labels[one]] for one in labels if trace.labels[one] in within]
        if parts:
            places = np.concatenate([gathered(trace, part)[0] for part in parts])
            yield _Share(arm, phase, False, sum(map(len, parts)), places)
        else:
            chosen = np.flatnonzero(np.isin(trace.ranges.label, labels))
            yield _Share(arm, phase, True, len(chosen), _begun_during(trace, chosen))


def _begun_during(trace: Trace, ranges: Array) -> Array:
    """Places of the work that began while one of some ranges was open, ``(n,)``."""
    order = np.argsort(trace.work.start_ns, kind="stable")
    starts = trace.work.start_ns[order]
    first = np.searchsorted(starts, trace.ranges.start_ns[ranges], "left")
    last = np.searchsorted(starts, trace.ranges.end_ns[ranges], "right")
    found = [order[begin:end] for begin, end in zip(first, last, strict=True)]
    return np.unique(np.concatenate(found)) if found else order[:0]


def _families(trace: Trace, share: _Share) -> ArmFamilies:
    kernel = trace.work.kernel[share.places]
    duration = trace.work.end_ns[share.places] - trace.work.start_ns[share.places]
    counts = np.bincount(kernel, minlength=len(trace.kernels))
    times = np.zeros(len(trace.kernels), dtype=np.int64)
    np.add.at(times, kernel, duration)
    kernels: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for one in np.flatnonzero(counts):
        name = family(trace.kernels[one])
        kernels[name] += int(counts[one])
        spent[name] += int(times[one])
        if name == OTHER:
            unknown[title(trace.kernels[one])] += int(times[one])
    total = sum(spent.values())
    return ArmFamilies(
        arm=share.arm,
        phase=share.phase,
        ranges=share.ranges,
        joined="time" if share.by_time else "launch",
        total_ns=total,
        families=tuple(
            FamilyTime(family=name, kernels=kernels[name], time_ns=time, share=time / max(1, total))
            for name, time in spent.most_common()
        ),
        other=tuple(name for name, _ in unknown.most_common()),
    )


def differences(arms: Sequence[ArmFamilies]) -> tuple[FamilyDifference, ...]:
    """What every family costs each arm more than the baseline, the largest difference first.

    The baseline is the arm of that name, or the first.
    """
    found = []
    for phase in _PHASES:
        of_phase = [arm for arm in arms if arm.phase == phase]
        baseline = next((arm for arm in of_phase if arm.arm == "baseline"), next(iter(of_phase), None))
        if baseline is not None:
            found += [one for arm in of_phase if arm is not baseline for one in _apart(arm, baseline)]
    return tuple(sorted(found, key=lambda one: -abs(one.difference_ns)))


def _apart(arm: ArmFamilies, baseline: ArmFamilies) -> Iterator[FamilyDifference]:
    times, usual = ({one.family: one.time_ns / side.ranges for one in side.families} for side in (arm, baseline))
    for name in FAMILIES:
        difference_ns = round(times.get(name, 0.0) - usual.get(name, 0.0))
        if difference_ns:
            yield FamilyDifference(
                family=name, arm=arm.arm, phase=arm.phase, baseline=baseline.arm, difference_ns=difference_ns
            )
