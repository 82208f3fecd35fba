"""A run's directory, written and read: lines of JSON that are there whole or not at all."""
