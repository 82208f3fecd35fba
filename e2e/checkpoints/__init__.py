"""Which weights: from a name to a directory that has them."""
