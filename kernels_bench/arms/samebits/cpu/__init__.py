"""The samebits arm on the CPU: batch-invariant operators in plain torch.

torch's own CPU GEMM is batch-variant, and padding it to a tile does not help: with MKL the rows of one tile
differ by their place in it (row modulo 4, at N <= 8 or at odd K, and at larger N with more threads). Three
rules keep the bits of a row free of its company, whatever the library does inside a call:

* a GEMM is a series of equal calls, one row each: same shape, same buffers, so no row has neighbours;
* sums are folded in halves by element-wise additions, which IEEE 754 rounds alike wherever they stand;
* `exp`, `log` and `rsqrt`, which no standard rounds, see one row at a time in a fresh buffer, so that an
  element's place in their vector loops and thread shares is its column and nothing else.

16-bit inputs are computed in fp32 and rounded once. Every NaN gets the same bits at the end: its sign and
payload are left open by IEEE 754, and may differ between vector and scalar code.
"""
