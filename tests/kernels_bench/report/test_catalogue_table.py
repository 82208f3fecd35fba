"""``--list``: an arm's claims in as few words as they need."""

from __future__ import annotations

import pytest

from kernels_bench.records.cases import Claims
from kernels_bench.report.catalogue_table import _claims

KNOWN = ("repeat", "batch_size", "layout", "history")


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        (True, "yes"),
        (False, "no"),
        ((), "no"),
        (("repeat",), "repeat"),
        (("repeat", "batch_size"), "repeat, batch_size"),
        (("repeat", "batch_size", "history"), "all but layout"),
        (KNOWN, "repeat, batch_size, layout, history"),
    ],
)
def test_claims_are_told_by_what_they_leave_out_where_that_is_less(claims: Claims, said: str) -> None:
    assert _claims(claims, KNOWN) == said
