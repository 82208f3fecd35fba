"""How it is told: from records to conclusions to text.  Opens no process and loads no torch."""
