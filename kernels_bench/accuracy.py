"""How far a kernel's results are from the float64 reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from kernels_bench.cases import at_token
from kernels_bench.operators import RowTensors
from kernels_bench.records import Accuracy
from kernels_bench.subject import Subject

# Float64 elements of a reference held at once.
_CHUNK = 1 << 25


class Referee:
    """Compares outputs with the reference and remembers the worst of them.

    Attributes:
        accuracy: the worst distance seen so far, None before the first.
    """

    def __init__(self, subject: Subject) -> None:
        self.accuracy: Accuracy | None = None
        self._subject = subject

    def check(self, ids: torch.Tensor, outputs: RowTensors, company_of: Callable[[int], str]) -> None:
        """Compare some rows' outputs.

        Args:
            ids: identity of each line, of shape (lines,), on the subject's device.
            outputs: the kernel's results for these lines, each of shape (lines, …).
            company_of: spec of the company that a position belongs to.
        """
        for found in self._errors(ids, outputs, company_of):
            if self.accuracy is None:
                self.accuracy = found
            else:
                worse = found if found.worst > self.accuracy.worst else self.accuracy
                self.accuracy = worse.model_copy(update={"rows": self.accuracy.rows + found.rows})

    def _errors(self, ids: torch.Tensor, outputs: RowTensors, company_of: Callable[[int], str]) -> Iterator[Accuracy]:
        subject, operator = self._subject, self._subject.operator
        width = max(output[0].numel() for output in outputs)
        size = max(1, _CHUNK // width)
        for first in range(0, len(ids), size):
            rows = ids[first : first + size]
            inputs = operator.inputs_of(rows, subject.tables)
            exact = operator.reference(inputs, subject.weights)
            allowed = operator.allowance(inputs, subject.weights, exact, subject.case.precision.torch_output)
            for right, bound, output in zip(exact, allowed, outputs, strict=True):
                position, found = _worst(rows, right, bound, output[first : first + size])
                row, token = operator.place_of(found.row)
                yield found.model_copy(update={"company": company_of(first + position), "row": row, "token": token})

    def inaccuracy(self) -> str:
        """Why the kernel is wrong, or nothing."""
        found = self.accuracy
        if found is None or found.worst <= 1:
            return ""
        return (
            f"row {found.row}{at_token(found.token)} of company {found.company}, element {found.index}: "
            f"{found.got:.9g} where float64 gives {found.expected:.9g}"
        )


def _worst(
    ids: torch.Tensor,
    exact: torch.Tensor,
    bound: torch.Tensor,
    got: torch.Tensor,
) -> tuple[int, Accuracy]:
    """The worst element's row and what is wrong with it; the company is for the caller to name."""
    share = (got.double() - exact).abs_().div_(bound)
    # NaN never passes: the universe's ordinary rows are finite, and so are their exact results.
    share = share.nan_to_num_(nan=torch.inf, posinf=torch.inf).reshape(-1)
    place = share.argmax()
    width = len(share) // len(ids)
    # float64 holds row ids and places exactly; in one tensor they are waited for once.
    answer = (share[place], exact.reshape(-1)[place], got.reshape(-1)[place], ids[place // width], place)
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
