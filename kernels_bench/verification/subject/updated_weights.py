"""Launches with other weights, as after a step of training: does a kernel keep anything of the earlier ones?"""

from __future__ import annotations

from types import MappingProxyType

import torch

from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.device.kinds.known import kind_of
from kernels_bench.operators import Tensors
from kernels_bench.operators.inputs.rows import KINDS, nearly_the_same
from kernels_bench.relations import Batch
from kernels_bench.relations.base import are_sequences
from kernels_bench.verification.bitwise import same_lines
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.subject.launch_forms import somewhat_later
from kernels_bench.verification.subject.launched import IgnoresWeights, LaunchResult

_SAMPLED, _LOOKED_AT = 16, 1 << 16
"""Weights of so few numbers are not looked at by samples; among so many one is sought that is far from another."""
_TURNS = 32
"""At half of so many rows, and each so many more, weights are written anew that are nearly the earlier ones."""
_ALONE = MappingProxyType({5: -1, 12: 0, 24: 1})
"""At so many rows, and each `_TURNS` more, one of several weights is written anew alone."""
_MANY_ALONE = MappingProxyType({48: -1, 144: 0})
"""So it is at these, too: what is packed for many rows may be known by one of them."""


def start_updated(subject: KernelUnderTest, company: Batch) -> tuple[LaunchResult, LaunchResult]:
    """Launch a company with other weights: with fresh copies of them, and written over those of all earlier calls.

    A kernel that keeps what it once made of its weights, a packed copy, say, gives other bits in the second launch.

    Raises:
        IgnoresWeights: it gives the same result whatever the weights.
    """
    usual, alone = subject.weights, _alone(subject, company.size)
    turned = subject.operator.other_weights(usual)
    if alone is not None:
        turned = tuple(turned[at] if at == alone else weight.clone() for at, weight in enumerate(usual))
    nearly = _nearly_the_same(subject, company.size)
    saved = tuple(weight.clone() for weight in usual)
    try:
        if nearly:  # between which and the usual ones a kernel that keeps what is close has seen others
            _launched(subject, turned, company)
            fresh = _launched(subject, nearly, company)
            _launched(subject, turned, company)
            _launched(subject, usual, company)
        else:
            # The usual ones last: of a kernel that keeps but one of what it made, it is theirs.
            fresh = _launched(subject, turned, company)
            changed = _changed_in_one_place(subject, usual, company.size) if alone is None else ()
            other = _launched(subject, changed, company) if changed else fresh
            before = _launched(subject, usual, company)
            _refuse_same(subject, before, fresh, turned, tells=alone is None)
            if changed:
                _refuse_same(subject, before, other, changed, tells=False)
            if changed and company.size % 2 == 0:
                fresh, turned = other, changed
        for at, values in enumerate(nearly or turned):
            if alone in {None, at}:  # torch counts what is written, the same numbers too
                usual[at].copy_(values)
        return fresh, _launched(subject, usual, company)
    finally:
        subject.weights = usual
        for weight, values in zip(usual, saved, strict=True):
            weight.copy_(values)


def _alone(subject: KernelUnderTest, m: int) -> int | None:
    """Which of several weights is written anew alone at an M; None: all of them are.

    Of attention's none of the caches, whose pages are written all the time.
    """
    place = _MANY_ALONE.get(m, _ALONE.get(m % _TURNS))
    own = [*range(len(subject.weights))]
    if are_sequences(subject.operator.rows_are):
        own = [at for at, weight in enumerate(subject.weights) if weight.dim() == 1]
    elif len(own) < len(("one", "another")):
        own = []
    return None if place is None or not own else own[place % len(own)]


def _nearly_the_same(subject: KernelUnderTest, m: int) -> Tensors:
    """At some M weights that differ from the usual ones in the last bit; else, or where there are no such, none."""
    if m % _TURNS != _TURNS // 2 or m in _MANY_ALONE or are_sequences(subject.operator.rows_are):
        return ()
    found = tuple(map(nearly_the_same, subject.weights))
    known = all(one is weight for one, weight in zip(found, subject.weights, strict=True))
    return () if known else somewhat_later(found)


def _changed_in_one_place(subject: KernelUnderTest, usual: Tensors, m: int) -> Tensors:
    """Weights of which the largest has another number in one place, where a kernel that looks at samples sees none.

    It is in the middle, in no even row or column and not on the diagonal, another one for each M. The number is one of
    the weight's that is far from what stood there: it is in range, and tells.
    """
    numbers = [at for at, weight in enumerate(usual) if weight.is_floating_point() and weight.numel() > _SAMPLED]
    if not numbers or are_sequences(subject.operator.rows_are):
        return ()
    at = max(numbers, key=lambda number: usual[number].numel())
    found = usual[at].clone()
    *rows, columns = found.shape
    place = (
        *(min(size - 1, (size // 2 + m % max(1, size // 4)) | 1) for size in rows),
        min(columns - 1, columns // 3 | 1),
    )
    some, there = (numbers.float() for numbers in (found.reshape(-1)[:_LOOKED_AT], found[place]))
    least, most = some.amin(), some.amax()
    found[place] = torch.where(there - least > most - there, least, most).to(found.dtype)
    return tuple(found if other == at else weight for other, weight in enumerate(usual))


def _launched(subject: KernelUnderTest, weights: Tensors, company: Batch) -> LaunchResult:
    """A launch with some weights, whose inputs are looked after by nobody."""
    subject.weights = weights
    outputs = tuple(output.clone() for output in subject.launch(subject.gather(company)))
    return LaunchResult(company, outputs, [])


def _refuse_same(
    subject: KernelUnderTest, usual: LaunchResult, other: LaunchResult, weights: Tensors, tells: bool
) -> None:
    """See that other weights gave another result.

    Args:
        subject: the kernel.
        usual: what it gave with the usual weights.
        other: what it gave with ``weights``.
        weights: the other ones.
        tells: whether these are all of them, so that results differ where an operator's weights tell.

    Raises:
        IgnoresWeights: they did not.
    """
    # A few rows: of one alone, whose terms cancel whatever they are, the result may be the same.
    if usual.company.size <= len(KINDS) or not subject.weights:
        return
    same = torch.stack([same_lines(*pair) for pair in zip(usual.outputs, other.outputs, strict=True)]).all(0)
    if not bool(same.any()):
        return
    if (tells and subject.operator.weights_tell and bool(same.all())) or _must_differ(subject, usual, weights, same):
        where = f"in batch {usual.company.spec}"
        raise IgnoresWeights(f"gives the same result with other weights, as with those of an earlier call, {where}")


def _must_differ(subject: KernelUnderTest, usual: LaunchResult, weights: Tensors, lines: torch.Tensor) -> bool:
    """Whether the reference tells of some lines that no result can be right with the usual weights and with others."""
    operator = subject.operator
    on_device = kind_of(subject.device.type).made_on == subject.device.type
    if not operator.has_reference or operator.depends_on_batch or not on_device:
        return False
    ids = operator.lines(usual.company, subject.universe, subject.case.shape).ids
    inputs = operator.inputs_of(copy_to_device(ids, subject.device)[lines], subject.tables)
    (right, near), (other, near_other) = (subject.expected(inputs, held) for held in (subject.weights, weights))
    # What is infinite may be so with both, however far apart they are.
    numbers = (output[lines].double().isfinite() for output in usual.outputs)
    return any(
        bool((((one - two).abs() > bound + bound_of_two) & number).any())
        for one, two, bound, bound_of_two, number in zip(right, other, near, near_other, numbers, strict=True)
    )
