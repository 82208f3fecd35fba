"""Attention over a paged cache beyond the plain one, and the float64 attention that all of it is judged by."""

PLAIN, VARIANT, FP8 = "", "variant_", "fp8_"
"""Kinds of it, as they stand in the names of operators."""


def operators_of(*kinds: str) -> tuple[str, ...]:
    """Names of the operators of some kinds: a decode, a prefill, and both beside each other."""
    return tuple(f"attention_{kind}{mode}" for kind in kinds for mode in ("decode", "prefill", "mixed"))
