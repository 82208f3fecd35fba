"""Launches that answer questions about sums of positive terms, see `kernels_bench.order.triples`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from kernels_bench.arms import Unsupported
from kernels_bench.order.layout import Layout, uniform
from kernels_bench.order.posed import FRESH, Posed, pieces
from kernels_bench.order.probe import Asker
from kernels_bench.order.reveal import Inconsistent
from kernels_bench.order.tree import Ints, Tree
from kernels_bench.order.triples import confirm_triples, meets_first, reveal_triples, triples_certificate

SMALL = 0.75 * 2.0**-24
"""Lost beside 1 in fp32, and twice it is not; a quarter off either way changes nothing."""

_RANDOM = 128

Triples = tuple[Ints, Ints, Ints]


class TripleProber(Asker):
    """Asks one row operator at one number of rows; a row is a sum of terms that are all positive.

    Raises:
        Unsupported: the result's dtype does not show what a sum has beyond 1.
    """

    def prepare(self) -> None:
        """See that the result tells."""
        if self.output not in self.operator.readable:
            raise Unsupported(f"a result in {self.output} does not show the order of {self.operator.name}")

    def read(self, seed: int) -> Layout:
        """The tree, as every row has it."""
        tree = reveal_triples(self.terms, self.ask, seed)
        self._check(tree, seed)
        return uniform(tree, self.sums)

    def confirm(self, known: Layout, seed: int) -> str | None:
        """Where the order is not the known one, in words; None if it is."""
        (part,) = known.parts
        wrong = confirm_triples(part.tree, self.ask)
        if wrong is not None:
            return f"terms {wrong[1]} and {wrong[2]} do not meet before term {wrong[0]}"
        self._check(part.tree, seed)
        return None

    def _check(self, tree: Tree, seed: int) -> None:
        """Predict what random triples give, twice over.

        Raises:
            Inconsistent: a prediction fails, or the kernel is not repeatable.
        """
        triples = _random_triples(self.terms, seed)
        again = [self.ask(*triples) for _ in range(2)]
        if (again[0] != again[1]).any():
            raise Inconsistent("it is not repeatable: equal launches gave different sums")
        if (again[0] != meets_first(tree, *triples)).any():
            raise Inconsistent("its order depends on its data: a random triple is not as the tree has it")

    def posed(self, known: Layout, seed: int) -> Iterator[Posed]:
        """See `Asker.posed`."""
        (part,) = known.parts
        triples = _random_triples(self.terms, seed)
        for _ in range(FRESH):
            yield self._foretold(triples, meets_first(part.tree, *triples))
        certificate = triples_certificate(part.tree)
        held = np.ones(len(certificate[0]), dtype=np.bool_)
        for chosen in pieces(len(held), self.terms, 4, seed):
            first, second, third = (terms[chosen] for terms in certificate)
            yield self._foretold((first, second, third), held[chosen])

    def certified_by(self, known: Layout) -> int:
        """See `Asker.certified_by`."""
        (part,) = known.parts
        return len(triples_certificate(part.tree)[0])

    def _foretold(self, triples: Triples, answers: NDArray[np.bool_]) -> Posed:
        terms = torch.zeros(len(answers), self.terms, device=self.device)
        self._put(terms, torch.arange(len(answers), device=self.device), triples)
        return Posed(terms, torch.as_tensor(answers, device=self.device))

    def ask(self, first: Ints, second: Ints, third: Ints) -> NDArray[np.bool_]:
        """See `kernels_bench.order.triples.AskTriples`."""
        found = np.empty(len(first), dtype=np.bool_)
        for begin in range(0, len(first), self.sums):
            chosen = slice(begin, begin + self.sums)
            found[chosen] = self._launched(first[chosen], second[chosen], third[chosen])
        return found

    def _launched(self, first: Ints, second: Ints, third: Ints) -> NDArray[np.bool_]:
        place = torch.as_tensor(self.draw.permutation(self.sums)[: len(first)], device=self.device)
        terms = torch.zeros(self.sums, self.terms, device=self.device)
        terms[:, 0] = 1  # of rows that are asked nothing
        terms[place, 0] = 0
        self._put(terms, place, (first, second, third))
        told = self.launched(terms)[0].index_select(0, place)
        if bool(told.isnan().any()):
            raise Inconsistent("a row of finite numbers gave NaN")
        return np.asarray(told.bool().cpu().numpy())

    def _put(self, terms: torch.Tensor, place: torch.Tensor, triples: Triples) -> None:
        """A triple each into some rows of zeros."""
        first, second, third = (torch.as_tensor(chosen, device=self.device) for chosen in triples)
        for chosen, value in ((second, SMALL), (third, SMALL), (first, 1.0)):
            terms[place, chosen] = value


@lru_cache(16)
def _random_triples(terms: int, seed: int) -> Triples:
    """Of three different terms each; none where there are not as many."""
    draw = np.random.default_rng([seed, terms])
    drawn = [draw.choice(terms, 3, replace=False) for _ in range(_RANDOM if terms > 2 else 0)]
    first, second, third = np.array(drawn, dtype=np.int64).reshape(-1, 3).T
    return first, second, third
