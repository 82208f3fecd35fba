"""The order of a sum as a tree: described, drawn and expected.  Pure."""
