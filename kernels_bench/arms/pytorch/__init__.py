"""What torch itself computes, by default and otherwise."""
