"""From answers to a tree, and to the certificate that it is no other.  Pure."""
