"""Questions to a kernel, and what its answers mean.  Nothing else of `kernels_bench.order` launches it."""
