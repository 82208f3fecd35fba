"""Several runs beside each other: may one replace another, and what changed over time."""
