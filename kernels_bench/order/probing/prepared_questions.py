"""Questions made once whose answers an order foretells: at every M one comparison a launch says whether it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from kernels_bench.order.trees.tree import Ints

PIECE_BYTES = 1 << 28
"""Terms that are kept on the device at a time, about; those of a whole certificate may be many gigabytes."""

FRESH = 2
"""Pieces of random questions that come before a certificate's; a kernel that is not repeatable fails one of them."""


@dataclass(frozen=True, eq=False)
class PreparedQuestions:
    """Some questions, and what one order answers.

    Attributes:
        terms: what each question has added, (questions, K), on the device.
        answers: what `Operator.added` gives for each then, (questions,), on the device.
        off: how far from it a result may be: 0, but where a sum comes as a quotient.
    """

    terms: torch.Tensor
    answers: torch.Tensor
    off: float = 0.0

    def __len__(self) -> int:
        return len(self.answers)

    def drawn(self, width: int, draw: np.random.Generator) -> torch.Tensor:
        """Questions' numbers from one of chance on, (launches, width); the first again where a launch has room left."""
        launches = -(-len(self) // width)
        numbers = torch.arange(launches * width, device=self.answers.device)
        return numbers.add_(int(draw.integers(len(self)))).remainder_(len(self)).view(launches, width)

    def agrees(self, sums: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Whether sums are the answers to some questions in all rows: one boolean, on the device.

        Args:
            sums: as `Operator.added` gives them, (rows, n).
            chosen: the questions' numbers, (n,).
        """
        expected = self.answers[chosen]
        if not self.off:
            return (sums == expected).all()
        return ((sums - expected).abs() <= self.off).all()


def pieces(questions: int, terms: int, item: int, seed: int) -> Iterator[Ints]:
    """Numbers of questions in an order of chance, so many at a time as are kept at a time.

    Args:
        questions: how many there are.
        terms: that each has.
        item: bytes of one.
        seed: of the order.
    """
    order = np.random.default_rng([seed, questions]).permutation(questions)
    step = max(1, PIECE_BYTES // (terms * item))
    yield from (order[begin : begin + step] for begin in range(0, questions, step))
