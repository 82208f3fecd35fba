"""What an engine's process passes on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from e2e.engine.worker import fp32_bits


@given(st.floats(width=32, allow_nan=False))
def test_bits_of_log_probabilities_are_fp32s(value: float) -> None:
    assert fp32_bits(value) == fp32_bits(float(value))
    assert 0 <= fp32_bits(value) < 1 << 32
