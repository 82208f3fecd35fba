"""How results in fp32 become the operator's dtype."""

from __future__ import annotations

import torch
from torch import Tensor


def rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Fp32 values rounded to a dtype, every NaN with the same bits."""
    result = values.to(dtype)
    return result.masked_fill_(result.isnan(), torch.nan)
