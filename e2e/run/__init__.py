"""One process an arm, and whose turn it is, as the parent sees it."""
