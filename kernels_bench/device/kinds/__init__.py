"""What knows one kind of device from another: one file a kind.  torch_npu is imported here alone for its device."""
