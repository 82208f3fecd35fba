"""Ranks: processes that compute one collective together, started and ended as one.  Knows no operator and no arm."""
