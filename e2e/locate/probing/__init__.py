"""See what an engine does with the needle's rows, and keep 64 bits of each."""
