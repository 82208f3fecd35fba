"""Launches that answer questions about sums of positive terms, see `kernels_bench.order.reconstruct.triples`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from kernels_bench.arms import Unsupported
from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.order.probing.prepared_questions import FRESH, PreparedQuestions, pieces
from kernels_bench.order.probing.prober import Prober
from kernels_bench.order.reconstruct.cancellation import Inconsistent
from kernels_bench.order.reconstruct.triples import confirm_triples, meets_first, reveal_triples, triples_certificate
from kernels_bench.order.trees.by_column import ColumnOrders, uniform
from kernels_bench.order.trees.tree import Ints

SMALL = 0.75 * 2.0**-24
"""Lost beside 1 in fp32, and twice it is not; a quarter off either way changes nothing."""

_RANDOM = 128

Triples = tuple[Ints, Ints, Ints]


class TripleProber(Prober):
    """Asks one row operator at one number of rows; a row is a sum of terms that are all positive.

    Raises:
        Unsupported: the result's dtype does not show what a sum has beyond 1.
    """

    def prepare(self) -> None:
        """See that the result tells.

        Raises:
            Unsupported: it does not.
        """
        if self.output not in self.operator.readable:
            raise Unsupported(f"a result in {self.output} does not show the order of {self.operator.name}")

    def revealed(self, seed: int) -> ColumnOrders:
        """The tree, as every row has it."""
        return uniform(reveal_triples(self.terms, self.ask, seed), self.sums)

    def confirmed(self, known: ColumnOrders) -> bool:
        """See `confirm_triples`."""
        (part,) = known.parts
        return confirm_triples(part.tree, self.ask) is None

    def check(self, layout: ColumnOrders, seed: int) -> None:
        """Predict what random triples give, twice over.

        Raises:
            Inconsistent: the kernel gives something else, or is not repeatable.
        """
        (part,) = layout.parts
        triples = _random_triples(self.terms, seed)
        once, again = self.twice(lambda: self.ask(*triples))
        if (once != again).any():
            raise Inconsistent("it is not repeatable: equal launches gave different sums")
        if (once != meets_first(part.tree, *triples)).any():
            if (self.ask(*triples) != once).any():
                raise Inconsistent("rows of one launch add in orders of their own")
            raise Inconsistent("its order depends on its data: a random triple is not as the tree has it")

    def posed(self, known: ColumnOrders, seed: int) -> Iterator[PreparedQuestions]:
        """See `Prober.posed`."""
        (part,) = known.parts
        triples = _random_triples(self.terms, seed)
        for _ in range(FRESH):
            yield self._foretold(triples, meets_first(part.tree, *triples))
        certificate = triples_certificate(part.tree)
        held = np.ones(len(certificate[0]), dtype=np.bool_)
        for chosen in pieces(len(held), self.terms, 4, seed):
            first, second, third = (terms[chosen] for terms in certificate)
            yield self._foretold((first, second, third), held[chosen])

    def certified_by(self, known: ColumnOrders) -> int:
        """See `Prober.certified_by`."""
        (part,) = known.parts
        return len(triples_certificate(part.tree)[0])

    def _foretold(self, triples: Triples, answers: NDArray[np.bool_]) -> PreparedQuestions:
        return PreparedQuestions(self._terms(triples), copy_to_device(answers, self.device))

    def ask(self, first: Ints, second: Ints, third: Ints) -> NDArray[np.bool_]:
        """See `kernels_bench.order.reconstruct.triples.AskTriples`.

        Raises:
            Inconsistent: a row of finite numbers gave NaN.
        """
        found = np.empty(len(first), dtype=np.bool_)
        # No question is asked in the same row at every M: their orders could differ.
        for numbers in pieces(len(first), self.terms, 4, int(self.draw.integers(1 << 31))):
            full = np.resize(numbers, -(-len(numbers) // self.sums) * self.sums)
            terms = self._terms((first[full], second[full], third[full]))
            told = self._launched_by_row(terms)[0, : len(numbers)].double().cpu().numpy()
            if np.isnan(told).any():
                raise Inconsistent("a row of finite numbers gave NaN")
            found[numbers] = told != 0
        return found

    def _terms(self, triples: Triples) -> torch.Tensor:
        """A triple each in rows of zeros."""
        first, second, third = copy_to_device(np.stack(triples), self.device)
        terms = torch.zeros(len(first), self.terms, device=self.device)
        rows = torch.arange(len(first), device=self.device)
        for chosen, value in ((second, SMALL), (third, SMALL), (first, 1.0)):
            terms[rows, chosen] = value
        return terms


@lru_cache(16)
def _random_triples(terms: int, seed: int) -> Triples:
    """Of three different terms each; none where there are not as many."""
    draw = np.random.default_rng([seed, terms])
    drawn = [draw.choice(terms, 3, replace=False) for _ in range(_RANDOM if terms > 2 else 0)]
    first, second, third = np.array(drawn, dtype=np.int64).reshape(-1, 3).T
    return first, second, third
