"""What vLLM's layers call on a GPU beside GEMMs and attention, with its batch-invariant flag and without."""
