"""What engines run beside matrix products, norms and attention: one file a family, measured where it is asked for."""
