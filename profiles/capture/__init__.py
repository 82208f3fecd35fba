"""Starts a program under a recorder, and says why no report came."""
