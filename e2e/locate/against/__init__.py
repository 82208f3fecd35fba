"""Another engine of the same model, or Hugging Face transformers: where the two first part, and how far they grow.

Their bits need not be equal, so that nothing that is found here breaks a promise.
"""
