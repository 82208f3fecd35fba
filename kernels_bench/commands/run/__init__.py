"""The measuring itself, from the selection to the records."""
