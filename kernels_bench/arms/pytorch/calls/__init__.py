"""What a model in plain PyTorch calls for each operator, by kind."""
