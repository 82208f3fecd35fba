"""What is shown of a run on a terminal: one screen, or everything."""
