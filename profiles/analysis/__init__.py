"""Pure functions from a trace and a run to typed findings."""
