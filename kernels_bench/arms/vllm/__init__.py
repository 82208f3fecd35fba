"""What vLLM brings: its batch-invariant kernels, and those that it calls by default."""
