"""A report as columns of numbers, whatever recorded it.  Knows no benchmark."""
