"""How long a call takes: many samples, a median with its interval."""
