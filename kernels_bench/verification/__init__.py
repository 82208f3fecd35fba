"""How results are compared: one kernel, two batches, equal bits or a counterexample."""
