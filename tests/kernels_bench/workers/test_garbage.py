"""What is imported for good is not searched for garbage, and everything else is."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from kernels_bench.workers.lifetime import made_to_stay


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_is_made_by_an_import_is_left_alone_from_then_on() -> None:
    before = gc.get_freeze_count()
    with made_to_stay():
        assert not gc.isenabled()
        made: list[list[int]] = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(made)


def test_an_import_that_fails_leaves_it_on_too() -> None:
    with pytest.raises(ImportError), made_to_stay():
        raise ImportError
    assert gc.isenabled()
