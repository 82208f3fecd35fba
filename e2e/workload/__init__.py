"""What is asked of every arm, alike.  Loads no engine."""
