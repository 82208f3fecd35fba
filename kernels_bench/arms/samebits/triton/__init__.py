"""The samebits arm on a GPU: each operator in Triton, each shape in one order of addition at every M."""
