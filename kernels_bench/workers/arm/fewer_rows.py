"""A kernel for few rows, such as one for decode steps alone: it is verified among as many as it takes."""

from __future__ import annotations

from collections.abc import Callable

from kernels_bench.arms import Unsupported
from kernels_bench.console.text import first_line
from kernels_bench.records.results import Verification
from kernels_bench.relations import make_batch
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.workers.messages import Verify

FEWEST = 2
"""Of one row there is no batch to compare it in."""


def verified_among_its_rows(
    request: Verify,
    subject_of: Callable[[Verify], KernelUnderTest],
    verify: Callable[[KernelUnderTest, Verify], Verification],
) -> Verification:
    """What is found of a case; where its kernel refuses the universe, of the largest one that it takes.

    Args:
        request: the case, and what is to be examined of it.
        subject_of: the kernel over a request's rows.
        verify: examines it.

    Raises:
        Unsupported: the kernel takes no row, or one alone.
        NotImplementedError: likewise, in the kernel's own way.
    """
    subject = subject_of(request)
    try:
        return verify(subject, request)
    except (Unsupported, NotImplementedError) as refusal:
        if not _takes(subject, 1) or _takes(subject, request.universe):  # what was refused is no number of rows
            raise
        most, words = _most_rows(subject), first_line(refusal)
    del subject  # whose memory the next one may need
    if most < FEWEST:
        raise Unsupported(f"takes one row alone, which has no batch to depend on: {words}")
    fewer = among(most, request)
    return verify(subject_of(fewer), fewer).model_copy(update={"refused": words})


def among(most: int, request: Verify) -> Verify:
    """The same of a smaller universe, which stands where the whole one did."""

    def up_to(sizes: tuple[int, ...]) -> tuple[int, ...]:
        last = (most,) if request.universe in sizes else ()
        return tuple(sorted({*(m for m in sizes if m <= most), *last}))

    update = {"sizes": up_to(request.sizes), "digest_sizes": up_to(request.digest_sizes), "asked": up_to(request.asked)}
    return request.model_copy(update={"universe": most, "beyond": False, **update})


def _most_rows(subject: KernelUnderTest) -> int:
    """Of how many rows a kernel takes that takes one and refuses the universe, by bisection."""
    taken, refused = 1, subject.universe
    while refused - taken > 1:
        middle = (taken + refused) // 2
        if _takes(subject, middle):
            taken = middle
        else:
            refused = middle
    return taken


def _takes(subject: KernelUnderTest, m: int) -> bool:
    """Whether a kernel takes so many rows, whatever it makes of them."""
    try:
        subject.start(make_batch(f"first:{m}", subject.universe))
    except (Unsupported, NotImplementedError):
        return False
    return True
