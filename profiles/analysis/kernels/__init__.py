"""Which kernels ran: their families, which ran at which M, and why bits changed with them."""
