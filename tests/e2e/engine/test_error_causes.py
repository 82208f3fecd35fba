"""Why an engine failed, out of what vLLM raises and prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.engine.error_causes import ServerError, last_error, last_words, root_cause
from support.processes import LIMIT_S

CORE = "(EngineCore pid=10111) ERROR 11-23 08:58:29 [core.py:1510] "
ASKED = "Traceback (most recent call last):\nRuntimeError: Engine core initialization failed. See root cause above. "


def test_the_last_error_of_a_server_without_a_module_is_the_missing_module() -> None:
    """As vLLM 0.26's server ended on a machine without watchfiles."""
    printed = """Traceback (most recent call last):
  File "/site/vllm/entrypoints/serve/utils/ssl.py", line 8, in <module>
    from watchfiles import Change, awatch
ModuleNotFoundError: No module named 'watchfiles'
"""
    assert last_words(printed) == "ModuleNotFoundError: No module named 'watchfiles'"


def test_who_only_points_elsewhere_is_passed_over() -> None:
    """As vLLM 0.32's server ends whose engine has no memory: three processes tell of it, two of them of each other."""
    printed = (
        f"{CORE}ValueError: Available memory on node 0 (16.85/18.84 GiB) is less than requested.\n"
        f"{CORE}RuntimeError: Worker failed with error 'no', please check the stack trace above for the root cause\n"
        "(EngineCore pid=10111) ERROR 11-23 08:58:32 [multiproc_executor.py:315] Worker proc died unexpectedly.\n"
        f"{ASKED}Failed core proc(s): {{}}\n"
    )
    found = "ValueError: Available memory on node 0 (16.85/18.84 GiB) is less than requested."
    assert last_words(printed) == found
    assert root_cause(RuntimeError("Engine core initialization failed. See root cause above."), printed) == found
    assert root_cause(RuntimeError("another one"), printed) == "RuntimeError: another one"


def test_an_error_that_points_where_nothing_is_keeps_its_own_words() -> None:
    error = RuntimeError("Engine core initialization failed. See root cause above.")
    assert root_cause(error, ASKED) == f"RuntimeError: {error}"


VALIDATION = """1 validation error for ModelConfig
  Value error, User-specified max_model_len (100000) is greater than 8192. [type=value_error, input_value=ArgsKwargs]
    For further information visit https://errors.pydantic.dev/2.14/v/value_error"""


class ValidationError(ValueError):
    """Named as pydantic's."""


def test_of_a_refused_configuration_the_reason_is_told_not_the_count() -> None:
    found = "ValidationError: User-specified max_model_len (100000) is greater than 8192."
    assert root_cause(ValidationError(VALIDATION), "") == found
    assert last_error(f"pydantic_core._pydantic_core.ValidationError: {VALIDATION}\n") == found


NO_MODEL = """1 validation error for ModelConfig
  Value error, Invalid repository ID or local directory specified: '/tmp/no-model'.
Please verify the following requirements:
1. Provide a valid Hugging Face repository ID.
2. Specify a local directory that contains a recognized configuration file.
   - For Hugging Face models: ensure the presence of a 'config.json'.
   - For Mistral models: ensure the presence of a 'params.json'.
 [type=value_error, input_value=ArgsKwargs((), {'model': ...nderer_num_workers': 1}), input_type=ArgsKwargs]
    For further information visit https://errors.pydantic.dev/2.14/v/value_error"""


def test_of_a_model_that_is_none_its_path_is_told_and_not_what_a_model_is() -> None:
    """As vLLM 0.32 refuses an empty directory."""
    found = "ValidationError: Invalid repository ID or local directory specified: '/tmp/no-model'."
    assert root_cause(ValidationError(NO_MODEL), "") == found


def test_pydantics_own_words_are_understood() -> None:
    def positive(value: int) -> int:
        if value <= 0:
            raise ValueError("it must be positive")
        return value

    class Config(pydantic.BaseModel):
        size: int
        _check = pydantic.field_validator("size")(positive)

    with pytest.raises(pydantic.ValidationError) as caught:
        Config(size=0)
    assert root_cause(caught.value, "") == "ValidationError: size: it must be positive"


def test_an_error_of_our_own_needs_no_name() -> None:
    assert root_cause(ServerError("the server was killed by SIGKILL"), "") == "the server was killed by SIGKILL"


def test_who_printed_no_error_has_a_last_line_at_least() -> None:
    assert last_words("loading\n\x1b[31mIllegal instruction\n\n") == "[31mIllegal instruction"
    assert last_words(" \n") is None


def test_an_error_without_words_does_not_take_those_of_the_next_line() -> None:
    assert last_words("asyncio.exceptions.TimeoutError\nshutting down\n") == "TimeoutError"


@given(st.text(), st.text())
def test_a_cause_is_one_line_that_can_be_printed_whatever_was_said(message: str, printed: str) -> None:
    for found in (
        root_cause(ValueError(message), printed),
        root_cause(RuntimeError("root cause"), printed),
        last_words(printed),
    ):
        assert found is None or (found.isprintable() and 0 < len(found) <= 400)


@given(st.lists(st.sampled_from(["", "loading weights", "INFO 11-23 08:58:29 [core.py:1] up", "  File 'x', line 1"])))
def test_lines_after_an_error_do_not_hide_it(after: list[str]) -> None:
    assert last_words("\n".join([f"{CORE}torch.OutOfMemoryError: CUDA out of memory.", *after])) == (
        "OutOfMemoryError: CUDA out of memory."
    )


PRINTING = """
import os, sys
from e2e.engine.error_causes import Printed
print("before", file=sys.stderr, flush=True)
printed = Printed()
os.system("echo a child >&2")
print("after", file=sys.stderr, flush=True)
sys.stdout.write(printed.text())
"""

KILLED = """
import sys
from e2e.engine.error_causes import Printed, killed_in_words
printed = Printed()
print("(APIServer pid=7) " + killed_in_words(8, 9), file=sys.stderr)
print("Traceback (most recent call last):\\nasyncio.exceptions.CancelledError\\n" * 20_000, file=sys.stderr, flush=True)
print(printed.killed_by(), len(printed.text()))
"""


def test_what_killed_an_engine_is_found_before_the_tracebacks_of_all_its_requests(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log:
        words = [sys.executable, "-c", KILLED]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=log, text=True, check=True, timeout=LIMIT_S)
    assert done.stdout.split() == ["SIGKILL", str(1 << 16)]


def test_what_a_server_says_is_shown_as_one_line_that_can_be_printed() -> None:
    assert root_cause(ServerError("status 500: \x1b[2Jgone\nand more"), "") == "status 500:  [2Jgone"
    assert len(root_cause(ServerError("x" * 5000), "")) == 400


@pytest.mark.parametrize("to_file", [True, False])
def test_what_is_printed_since_is_read_from_a_file_alone(tmp_path: Path, to_file: bool) -> None:
    """A pipe cannot be read by who writes into it."""
    with (tmp_path / "log").open("ab") as log:
        done = subprocess.run(
            [sys.executable, "-c", PRINTING],
            stdout=subprocess.PIPE,
            stderr=log if to_file else subprocess.PIPE,
            text=True,
            check=True,
            timeout=LIMIT_S,
        )
    assert done.stdout.splitlines() == (["a child", "after"] if to_file else [])
