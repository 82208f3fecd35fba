"""One guilty call with its real inputs: saved, and run alone in another process."""
