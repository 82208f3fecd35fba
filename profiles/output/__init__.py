"""From findings to words, CSV, HTML and figures.  Computes nothing that is not in the findings."""
