"""What checks a record is made when it is needed, or for all at once."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from profiles.run_files.record import Record, make_all_checks


def test_what_checks_a_record_is_made_with_the_first_one_and_refuses_it_where_it_is_wrong() -> None:
    class Kind(Record):
        number: int

    assert not Kind.__pydantic_complete__
    with pytest.raises(ValidationError, match="number"):
        Kind.model_validate({"number": "many"})
    assert Kind.__pydantic_complete__


def test_what_checks_all_kinds_is_made_at_once_before_processes_are_forked() -> None:
    class Kind(Record):
        number: int

    class KindOfIt(Kind):
        more: int

    make_all_checks()
    assert Kind.__pydantic_complete__
    assert KindOfIt.__pydantic_complete__
