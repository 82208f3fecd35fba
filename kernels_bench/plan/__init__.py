"""Which kernel to use at which M: kernels of the same bits, and the fastest of them for every batch.

What was measured is read as records; nothing is measured here.
"""
