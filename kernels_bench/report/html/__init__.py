"""A run as one page: what it says, with pictures, in a file that loads nothing from elsewhere.  No torch."""
