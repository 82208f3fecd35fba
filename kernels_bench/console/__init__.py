"""Talking to a terminal: one line of error, progress, text that can be printed."""
