"""Launches that answer questions about sums of positive terms, see `kernels_bench.order.triples`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from kernels_bench.arms import Unsupported
from kernels_bench.order.layout import Layout, Part
from kernels_bench.order.probe import Asker
from kernels_bench.order.reveal import Inconsistent
from kernels_bench.order.tree import Ints, Tree
from kernels_bench.order.triples import confirm_triples, meets_first, reveal_triples

SMALL = 0.75 * 2.0**-24
"""Lost beside 1 in fp32, and twice it is not; a quarter off either way changes nothing."""

_FRESH = 128


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
        return Layout((Part(np.arange(self.sums), reveal_triples(self.terms, self.ask, seed)),))

    def confirm(self, known: Layout) -> str | None:
        """Where the order is not the known one, in words; None if it is."""
        wrong = confirm_triples(known.parts[0].tree, self.ask)
        return None if wrong is None else f"terms {wrong[1]} and {wrong[2]} do not meet before term {wrong[0]}"

    def check(self, layout: Layout, seed: int) -> None:
        """Predict what random triples give, twice over.

        Raises:
            Inconsistent: a prediction fails, or the kernel is not repeatable.
        """
        tree: Tree = layout.parts[0].tree
        if self.terms < 3:
            return
        draw = np.random.default_rng([seed, self.m, self.terms])
        triples = np.stack([draw.choice(self.terms, 3, replace=False) for _ in range(_FRESH)], 1)
        first, second, third = triples
        again = [self.ask(first, second, third) for _ in range(2)]
        if (again[0] != again[1]).any():
            raise Inconsistent("it is not repeatable: equal launches gave different sums")
        if (again[0] != meets_first(tree, first, second, third)).any():
            raise Inconsistent("its order depends on its data: a random triple is not as the tree has it")

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
        for chosen, value in ((second, SMALL), (third, SMALL), (first, 1.0)):
            terms[place, torch.as_tensor(chosen, device=self.device)] = value
        told = self.launched(terms)[0].index_select(0, place)
        if bool(told.isnan().any()):
            raise Inconsistent("a row of finite numbers gave NaN")
        return np.asarray(told.bool().cpu().numpy())
