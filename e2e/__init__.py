"""The needle benchmark over a real engine: not written yet; `kernels_bench` is what there is to run today."""
