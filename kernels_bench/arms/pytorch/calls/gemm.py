"""torch's matrix products, as whatever library it was told to prefer computes them."""

from __future__ import annotations

from kernels_bench.arms.base import Kernel, Unsupported
from kernels_bench.device.lazy_torch import F, torch


def mm(a: torch.Tensor, b: torch.Tensor, *, out_dtype: torch.dtype) -> torch.Tensor:
    """``torch.mm``."""
    return torch.mm(a, b) if out_dtype is a.dtype else _widened(torch.mm, a, b, out_dtype=out_dtype)


def linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *, out_dtype: torch.dtype
) -> torch.Tensor:
    """``torch.nn.functional.linear``; an fp32 result comes from the product that it is made of."""
    if out_dtype is x.dtype:
        return F.linear(x, weight, bias)
    if bias is None:
        return _widened(torch.mm, x, weight.t(), out_dtype=out_dtype)
    return _widened(torch.addmm, bias, x, weight.t(), out_dtype=out_dtype)


def addmm(bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, out_dtype: torch.dtype) -> torch.Tensor:
    """``torch.addmm``."""
    return torch.addmm(bias, a, b) if out_dtype is a.dtype else _widened(torch.addmm, bias, a, b, out_dtype=out_dtype)


def bmm(a: torch.Tensor, b: torch.Tensor, *, out_dtype: torch.dtype) -> torch.Tensor:
    """``torch.bmm``."""
    return torch.bmm(a, b) if out_dtype is a.dtype else _widened(torch.bmm, a, b, out_dtype=out_dtype)


def _widened(product: Kernel, *operands: torch.Tensor, out_dtype: torch.dtype) -> torch.Tensor:
    """An fp32 result of 16-bit inputs, which torch gives on CUDA only."""
    if operands[0].device.type != "cuda":
        raise Unsupported(f"torch {torch.__version__} gives an fp32 result of 16-bit inputs on CUDA only")
    result: torch.Tensor = product(*operands, out_dtype=out_dtype)
    return result


KERNELS: dict[str, Kernel] = {
    "mm": mm,
    "linear": linear,
    "linear_bias": linear,
    "addmm": addmm,
    "bmm": bmm,
    "bmm_heads": bmm,
}
