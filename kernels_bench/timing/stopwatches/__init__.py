"""What takes the time on each kind of device: one file a kind, each with a stopwatch that makes meters."""
