"""torch and the GPU, without a word about operators or arms.  Takes torch from `lazy_torch` only."""
