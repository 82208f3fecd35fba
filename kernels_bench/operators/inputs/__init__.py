"""A universe of rows, made the same on every device and in every process."""
