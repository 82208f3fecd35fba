"""What is kept: immutable typed data that goes over a pipe or to disk, and its files.  Loads no torch."""
