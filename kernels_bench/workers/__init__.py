"""Where it runs: one process an arm, started, asked, timed out and ended."""
