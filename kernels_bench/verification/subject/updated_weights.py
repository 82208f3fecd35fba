"""Launches with other weights, as after a step of training: does a kernel keep anything of the earlier ones?"""

from __future__ import annotations

from kernels_bench.operators.inputs.rows import KINDS
from kernels_bench.relations import Batch
from kernels_bench.verification.bitwise import all_same_bits
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.subject.launched import IgnoresWeights, LaunchResult


def start_updated(subject: KernelUnderTest, company: Batch) -> tuple[LaunchResult, LaunchResult]:
    """Launch a company with other weights: with fresh copies of them, and written over those of all earlier calls.

    A kernel that keeps what it once made of its weights, a packed copy, say, gives other bits in the second launch.

    Raises:
        IgnoresWeights: it gives the same result whatever the weights.
    """
    usual = subject.weights
    other = subject.operator.other_weights(usual)
    saved = tuple(weight.clone() for weight in usual)
    try:
        before = _launched_unwatched(subject, company)
        subject.weights = other
        fresh = _launched_unwatched(subject, company)
        subject.weights = usual
        _refuse_same(subject, before, fresh)
        for weight, values in zip(usual, other, strict=True):
            weight.copy_(values)
        return fresh, _launched_unwatched(subject, company)
    finally:
        subject.weights = usual
        for weight, values in zip(usual, saved, strict=True):
            weight.copy_(values)


def _launched_unwatched(subject: KernelUnderTest, company: Batch) -> LaunchResult:
    """A launch with the weights of the moment, whose inputs are looked after by nobody."""
    outputs = tuple(output.clone() for output in subject.launch(subject.gather(company)))
    return LaunchResult(company, outputs, [])


def _refuse_same(subject: KernelUnderTest, usual: LaunchResult, other: LaunchResult) -> None:
    """See that other weights gave another result.

    Raises:
        IgnoresWeights: they did not.
    """
    # A few rows: of one alone, whose terms cancel whatever they are, the result may be the same.
    several = usual.company.size > len(KINDS) and subject.operator.weights_tell
    if several and subject.weights and all_same_bits(usual.outputs, other.outputs):
        where = f"in batch {usual.company.spec}"
        raise IgnoresWeights(f"gives the same result with other weights, as with those of an earlier call, {where}")
