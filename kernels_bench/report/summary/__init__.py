"""What follows from a run's records, as plain data."""
