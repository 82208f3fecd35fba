"""How far a kernel's results are from the float64 reference."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from kernels_bench.device.kinds.known import kind_of
from kernels_bench.operators import RowTensors
from kernels_bench.operators.base import largest
from kernels_bench.operators.inputs.rows import nearly_the_same
from kernels_bench.records.cases import at_token
from kernels_bench.records.results import Accuracy
from kernels_bench.relations.batch import SPECIAL
from kernels_bench.verification.bitwise import bits
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.trials import BrokenTrial

# Float64 elements of a reference computed at once, and of one that is kept.
_CHUNK, _KEPT = 1 << 25, 1 << 24
# Rows of a deviating company that are compared with the reference too, at most.
_DEVIANTS_CHECKED = 32
# What is so many times as far off as is allowed is no matter of the allowance.
_LITTLE = 1e3
_MASKED = ("masked", "one left", "masked end", "few left")
_JUDGED = ("negative zero", "signed zeros", "outlier", "constant", "sparse", *_MASKED)
"""Rows of special values with which a result is a number, if not in every operator."""
_GROSS = 2.0**-8
_GROSS_WHOLE, _LAST_BITS = 2.0**-6, 256
"""The same of whole batches, and so many times what a change in the last bit of all inputs makes of a result."""
_ALL_BITS = 1 + 3.14159265358979e-7
"""Times it a number of few bits has as many as float64 can hold, so that sums are rounded, as they are in fp32."""


@dataclass(frozen=True, eq=False)
class _Expected:
    """What is right for some lines.

    Attributes:
        ids: the lines' identities, ascending.
        exact: each of the operator's results.
        allowed: how far from it an honest kernel may be.
    """

    ids: torch.Tensor
    exact: RowTensors
    allowed: RowTensors

    def of(self, lines: torch.Tensor) -> tuple[RowTensors, RowTensors] | None:
        """The same for other lines, or None if some are not among these; waits for the device."""
        place = torch.searchsorted(self.ids, lines).clamp_(max=len(self.ids) - 1)
        if not bool((self.ids[place] == lines).all()):
            return None
        return tuple(t[place] for t in self.exact), tuple(t[place] for t in self.allowed)


class AccuracyChecker:
    """Compares outputs with the reference and remembers the worst of them.

    Attributes:
        accuracy: the worst distance seen so far, None before the first.
    """

    def __init__(self, subject: KernelUnderTest) -> None:
        self.accuracy: Accuracy | None = None
        self._subject = subject
        self._kept: _Expected | None = None
        # Where the device has no float64, its rows and its kernels' results are judged on the host.
        on_device = kind_of(subject.device.type).made_on == subject.device.type
        self._to = None if on_device else torch.device(kind_of(subject.device.type).made_on)
        self._tables, self._weights = self._moved(subject.tables), self._moved(subject.weights)

    def _moved(self, tensors: RowTensors) -> RowTensors:
        return tensors if self._to is None else tuple(tensor.to(self._to) for tensor in tensors)

    def check(self, ids: torch.Tensor, outputs: RowTensors, company_of: Callable[[int], str]) -> None:
        """Compare some rows' outputs.

        Args:
            ids: identity of each line, of shape (lines,), on the subject's device.
            outputs: the kernel's results for these lines, each of shape (lines, …).
            company_of: spec of the company that a position belongs to.
        """
        if not self._subject.operator.has_reference:
            return
        (ids,), outputs = self._moved((ids,)), self._moved(outputs)
        for found in self._errors(ids, outputs, company_of):
            self._remember(found)

    def _remember(self, found: Accuracy) -> None:
        if self.accuracy is None:
            self.accuracy = found
        else:
            worse = found if found.worst > self.accuracy.worst else self.accuracy
            self.accuracy = worse.model_copy(update={"rows": self.accuracy.rows + found.rows})

    def check_whole(self, ids: torch.Tensor, outputs: RowTensors, company: str) -> None:
        """Compare a whole batch, where a row's result depends on its batch by definition.

        What a user defined may be ill-conditioned in a few rows, as a division by their spread is: it may be off
        besides by many times what it changes where inputs change in their last bit. Where nobody has said how far off
        a result may be, wrong is what is grossly so.

        Args:
            ids: identity of each of its lines, of shape (lines,), on the subject's device.
            outputs: the kernel's results for these lines, each of shape (lines, …).
            company: its spec.
        """
        operator = self._subject.operator
        (ids,), outputs = self._moved((ids,)), self._moved(outputs)
        inputs = operator.inputs_of(ids, self._tables)
        exact, allowed = self._subject.expected(inputs, self._weights)
        if operator.own:
            nearly, _ = self._subject.expected(tuple(map(nearly_the_same, inputs)), self._weights)
            allowed = tuple(map(_conditioned, allowed, exact, nearly))
        if operator.bound_is_guessed:
            each = zip(allowed, exact, strict=True)
            allowed = tuple(torch.maximum(bound, _each(largest(one), one) * _GROSS_WHOLE) for bound, one in each)
        for right, bound, output in zip(exact, allowed, outputs, strict=True):
            _, found = _worst(ids, right, bound, output)
            row, token = operator.locate_row(found.row)
            self._remember(found.model_copy(update={"company": company, "row": row, "token": token}))

    def order_counts(self, lines: torch.Tensor, others: torch.Tensor) -> bool:
        """Whether the reference, too, gives rows of one batch other bits where they come in another order.

        So does a capacity that the first rows use up, and a sum over the batch, which is rounded on its way; a maximum
        does not.

        Args:
            lines: identity of each line of a batch, of shape (lines,).
            others: of the same lines in another order.
        """
        operator = self._subject.operator
        if not operator.has_reference:
            return False
        found: list[RowTensors] = []
        for ids in self._moved((lines, others)):
            inputs = operator.inputs_of(ids, self._tables)
            full = (one.double() * _ALL_BITS if one.is_floating_point() else one for one in inputs)
            order = ids.argsort(stable=True)
            found.append(tuple(one[order] for one in operator.reference(tuple(full), self._weights)))
        return not all(torch.equal(bits(one), bits(other)) for one, other in zip(*found, strict=True))

    def check_deviants(self, broken: Sequence[BrokenTrial]) -> None:
        """Compare some of the rows that differ in each trial, all trials' together.

        A row that is right elsewhere and NaN beside a neighbour that is NaN depends on its batch: its counterexample
        tells of it, and the kernel is not called wrong whatever the batch.
        """
        broken = [one for one in broken if _is_judged(one)]
        if not broken or self._subject.operator.depends_on_batch:  # of which some rows of a batch tell nothing
            return
        chosen = [_deviants(*one.pair(one.output)) for one in broken]
        ids = [one.ids[rows] for one, rows in zip(broken, chosen, strict=True)]
        outputs = [tuple(got[rows] for got in one.outputs()) for one, rows in zip(broken, chosen, strict=True)]
        ends = list(accumulate(len(rows) for rows in chosen))
        self.check(
            torch.cat(ids),
            tuple(torch.cat(parts) for parts in zip(*outputs, strict=True)),
            lambda position: broken[bisect_right(ends, position)].company.spec,
        )

    def check_special(self, ids: torch.Tensor, outputs: RowTensors, company: str) -> None:
        """Compare rows of special values, which nothing but a gross error makes wrong; what is found counts no rows.

        A row is judged where float64 gives no NaN. Wrong is what is one there, or is farther off than is allowed
        elsewhere and than `_GROSS` of the row's largest result, or of equal numbers of which nothing need be left: how
        a kernel rounds among rare values is its own. Of a row of zeros any number is right: the least scale, say, that
        is given to it is a convention.

        Args:
            ids: identity of each row, of shape (rows,), on the subject's device.
            outputs: the kernel's results for these rows, each of shape (rows, …).
            company: spec of the batch that they were.
        """
        judged = [SPECIAL.index(name) for name in _JUDGED]
        (ids,), outputs = self._moved((ids[judged],)), self._moved(tuple(output[judged] for output in outputs))
        exact, allowed = self._expected(ids)
        inputs = self._subject.operator.inputs_of(ids, self._tables)
        size = torch.stack([largest(one) for one in exact]).amax(0)
        equal = _JUDGED.index("constant")
        size[equal] = torch.stack([largest(one[equal : equal + 1]) for one in (*exact, *inputs)]).amax()
        size[[_JUDGED.index("negative zero"), _JUDGED.index("signed zeros")]] = torch.inf
        # Bounds that grow with the result are infinite where that is: of a masked logit only an infinity is right.
        masked = torch.tensor([name in _MASKED for name in _JUDGED], device=ids.device)
        numbers = ~torch.stack([one.reshape(len(ids), -1).isnan().any(1) for one in exact]).any(0)
        if not bool(numbers.any()):
            return
        for right, bound, output in zip(exact, allowed, outputs, strict=True):
            if not output.is_floating_point():  # which of several equal numbers is meant is nobody's to say
                continue
            gross = _each(torch.where(size > 0, size * _GROSS, torch.inf), right)
            told = torch.where(_each(masked, right) & right.isinf(), 0.0, bound)
            allowance = torch.maximum(told, gross)[numbers]
            position, found = _worst(ids[numbers], right[numbers], allowance, output[numbers])
            if found.worst > 1 and not self.inaccuracy():
                kind = _JUDGED[int(numbers.nonzero()[position])]
                rows = self.accuracy.rows if self.accuracy is not None else 0
                self.accuracy = found.model_copy(update={"company": f"{company} ({kind})", "rows": rows})

    def _errors(self, ids: torch.Tensor, outputs: RowTensors, company_of: Callable[[int], str]) -> Iterator[Accuracy]:
        """The worst of each chunk of rows, for each of the operator's results."""
        operator = self._subject.operator
        width = max(output[0].numel() for output in outputs)
        # Where a row's result depends on its batch, the reference is given the whole of it.
        size = len(ids) if operator.depends_on_batch else max(1, _CHUNK // width)
        for first in range(0, len(ids), size):
            rows = ids[first : first + size]
            exact, allowed = self._expected(rows)
            for right, bound, output in zip(exact, allowed, outputs, strict=True):
                position, found = _worst(rows, right, bound, output[first : first + size])
                row, token = operator.locate_row(found.row)
                yield found.model_copy(update={"company": company_of(first + position), "row": row, "token": token})

    def _expected(self, lines: torch.Tensor) -> tuple[RowTensors, RowTensors]:
        """The reference and the allowance of some lines; the first lines', if they are not many, are kept.

        A universe is checked before the companies drawn from it, so that these find theirs.
        """
        known = self._kept.of(lines) if self._kept is not None else None
        if known is not None:
            return known
        inputs = self._subject.operator.inputs_of(lines, self._tables)
        exact, allowed = self._subject.expected(inputs, self._weights)
        if self._kept is None and sum(tensor.numel() for tensor in exact) <= _KEPT:
            ids, order = lines.sort()
            self._kept = _Expected(ids, tuple(t[order] for t in exact), tuple(t[order] for t in allowed))
        return exact, allowed

    def inaccuracy(self) -> str:
        """Why the kernel is wrong, or nothing."""
        found = self.accuracy
        if found is None or found.worst <= 1:
            return ""
        return (
            f"row {found.row}{at_token(found.token)} of batch {found.company}, element {found.index}: "
            f"{found.got:.9g} where float64 gives {found.expected:.9g}{self._guessed(found)}"
        )

    def _guessed(self, found: Accuracy) -> str:
        """Of a result that is off by little, what to do where nobody has said how far off it may be."""
        little = self._subject.operator.bound_is_guessed and found.worst < _LITTLE
        return "; if so much is right there, say so (allowed_error)" if little else ""


def _conditioned(allowed: torch.Tensor, exact: torch.Tensor, nearly: torch.Tensor) -> torch.Tensor:
    """What is allowed and, besides, many times what nearly the same inputs change; where that is no number, all."""
    return (allowed + (exact.double() - nearly.double()).abs() * _LAST_BITS).nan_to_num(nan=torch.inf, posinf=torch.inf)


def _is_judged(trial: BrokenTrial) -> bool:
    """Whether the reference is what a row's result is to be near to.

    It is not beside neighbours or calls that a row may take harm from, and of other weights or tokens.
    """
    company, launch = trial.company, trial.comparison.launch
    return not company.contagious and not company.serving.prefix and launch in ("eager", "graph")


def _deviants(expected: torch.Tensor, got: torch.Tensor) -> torch.Tensor:
    """Positions of rows that differ, filled up with some that do not where too few do; waits for nothing."""
    count = min(_DEVIANTS_CHECKED, len(got))
    differs = (bits(expected) != bits(got)).reshape(len(got), -1).any(1)
    return differs.int().topk(count).indices


def _each(rows: torch.Tensor, results: torch.Tensor) -> torch.Tensor:
    """A number for each row, as many dimensions as the rows' results have."""
    return rows.reshape(-1, *[1] * (results.dim() - 1))


def _worst(
    ids: torch.Tensor,
    exact: torch.Tensor,
    bound: torch.Tensor,
    got: torch.Tensor,
) -> tuple[int, Accuracy]:
    """The worst element's row and what is wrong with it; the company is for the caller to name."""
    got = got.double()
    share = (got - exact).abs_().div_(bound)
    # Where a user's own reference overflows, or gives NaN, a kernel is right to do so too.
    share.masked_fill_((got == exact) | (got.isnan() & exact.isnan()), 0.0)
    # Of an element of which anything is right, as at the edge of a cut, an infinity is too.
    share.masked_fill_(bound.isinf() & (got.isinf() | exact.isinf()), 0.0)
    # NaN never passes: the universe's ordinary rows are finite, and so are their exact results.
    share = share.nan_to_num_(nan=torch.inf, posinf=torch.inf).reshape(-1)
    place = share.argmax()
    width = len(share) // len(ids)
    # float64 holds row ids and places exactly; in one tensor they are waited for once, as a place would be as an index.
    at = (share.take(place), exact.take(place), got.take(place), ids.take(place // width))
    answer = (*at, place)
    worst, expected, value, row, flat = torch.stack([number.double() for number in answer]).tolist()
    position, index = divmod(int(flat), width)
    return position, Accuracy(
        worst=worst,
        row=int(row),
        company="",
        index=index,
        expected=expected,
        got=value,
        rows=len(ids),
    )
