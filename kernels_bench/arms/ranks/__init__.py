"""Collectives over ranks: `kernels` makes a kernel of a function that ranks call together, the arms are files here."""
