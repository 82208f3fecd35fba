"""The first operator of an engine whose inputs were equal and whose outputs were not.

`probing` sees what runs, `judging` puts two passes side by side, `calls` runs the guilty call alone, and `search` has
an engine make the passes.
"""
