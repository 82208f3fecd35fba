"""The pytest plugin: a marker, a fixture and an option; loads no torch before a test asks for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kernels_bench.testing.report import Report

MARKER = "batch_invariant"
QUICK_S = 1.0
"""Seconds for comparisons beyond those of every check, with ``--samebits-quick``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--samebits-quick``."""
    group = parser.getgroup("samebits", "batch invariance of kernels")
    group.addoption(
        "--samebits-quick", action="store_true", help="check each kernel at one shape and dtype, and for a second more"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Introduce the marker."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(operator, **options): the kernel that the test returns keeps its bits in every batch; "
        "the operator and options are those of kernels_bench.check",
    )


@pytest.fixture
def assert_batch_invariant(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """`kernels_bench.assert_batch_invariant`, which heeds ``--samebits-quick``."""
    return _asserting(request.config)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Call a marked test, and check the kernel that it returns."""
    marker = pyfuncitem.get_closest_marker(MARKER)
    if marker is None:
        return None
    if len(marker.args) != 1:
        pytest.fail(f'expected an operator, such as @pytest.mark.{MARKER}("rms_norm")', pytrace=False)
    fixtures = inspect.signature(pyfuncitem.obj).parameters
    kernel = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in fixtures})
    if not callable(kernel):
        pytest.fail(f"{pyfuncitem.name} returned {kernel!r}: it is to return the kernel to check", pytrace=False)
    from kernels_bench.console.errors import UsageError
    from kernels_bench.records.definition import DefinitionError

    try:
        _asserting(pyfuncitem.config)(kernel, *marker.args, **marker.kwargs)
    except (AssertionError, UsageError, DefinitionError) as broken:
        failure = str(broken)
    else:
        return True
    pytest.fail(failure, pytrace=False)


def _asserting(config: pytest.Config) -> Callable[..., Report]:
    """`assert_batch_invariant`, with the options of this run of pytest."""
    usual: dict[str, Any] = {"quick": True, "budget_s": QUICK_S} if config.getoption("--samebits-quick") else {}

    def asserting(kernel: Callable[..., Any], operator: Any, **options: Any) -> Report:
        """What a test calls: torch is imported when the first one does."""
        __tracebackhide__ = True
        from kernels_bench.testing.checking import assert_batch_invariant as checked

        # A short run is the user's will, whatever a test has chosen.
        return checked(kernel, operator, **(options | usual))

    return asserting
