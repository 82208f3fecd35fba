"""What is planted: one file a kind of fault, each fault beside the same kernel without it."""
