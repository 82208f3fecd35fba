"""What vllm-ascend brings: its batch-invariant kernels, and torch_npu's that it calls by default."""
