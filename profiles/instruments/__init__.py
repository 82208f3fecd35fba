"""What a measured process calls: ranges, telemetry, its environment.  Costs nothing when nobody listens."""
