"""A plan's kernels inside an engine: chosen by M whenever they are called, behind one operator of torch's.

`plugin` is what vLLM loads; it is inert unless a plan is named.
"""
