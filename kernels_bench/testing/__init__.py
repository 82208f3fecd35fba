"""From Python and pytest: one kernel at hand, examined in the user's own process; loads torch only when it is asked."""
