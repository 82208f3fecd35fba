"""What is planted: one file a kind of fault, each fault beside the same kernel without it.

A file's ``FAULTS`` must be found. Its ``UNSEEN`` are what the detector is known to miss, and no score counts them.
"""
