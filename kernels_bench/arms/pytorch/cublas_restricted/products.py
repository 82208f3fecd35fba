"""Matrix products by an algorithm of cuBLASLt that the caller chooses, through nvmath-python's bindings.

cuBLASLt stores matrices by columns: what is a row-major C (M, N) = A (M, K) B (K, N) here is, for the library, the
column-major (N, M) = Bᵀ (N, K) Aᵀ (K, M).  So B is its left operand and A its right one, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from nvmath import CudaDataType
from nvmath.bindings import cublas, cublasLt

from kernels_bench.arms.base import Kernel, Unsupported
from kernels_bench.arms.pytorch.cublas_restricted.algorithms import Algorithm
from kernels_bench.device.lazy_torch import torch

_WORKSPACE_BYTES = 1 << 30
"""At most, for the parts' sums and for whatever an algorithm needs at another M than it was listed for."""

_ALIGNED = 16
"""Bytes that operands are taken to be aligned to, and no more, so that an address does not change the algorithm."""

_LISTED = 16
"""Algorithms that are asked for at once."""

_TYPES = {
    "torch.bfloat16": CudaDataType.CUDA_R_16BF,
    "torch.float16": CudaDataType.CUDA_R_16F,
    "torch.float32": CudaDataType.CUDA_R_32F,
}
_SCALARS = np.array([1.0, 0.0], dtype=np.float32)
_ONE, _ZERO = _SCALARS.ctypes.data, _SCALARS.ctypes.data + _SCALARS.itemsize
_RESULT = cublasLt.matmul_heuristic_result_dtype


class _Operand(NamedTuple):
    """A matrix as cuBLASLt sees it: ``rows`` and ``columns`` of what is stored, and whether it is then transposed."""

    rows: int
    columns: int
    stride: int
    transposed: bool


class _Product(NamedTuple):
    """What an algorithm depends on.

    Attributes:
        left: the caller's B.
        right: the caller's A.
        dtype: of operands, bias and result.
        bias: whether there is one.
        alignment: bytes that all operands' addresses are a multiple of, at most `_ALIGNED`.
    """

    left: _Operand
    right: _Operand
    dtype: torch.dtype
    bias: bool
    alignment: int

    @property
    def n(self) -> int:
        """Columns of the caller's result."""
        return self.left.columns if self.left.transposed else self.left.rows

    def at(self, m: int) -> _Product:
        """The same for so many of the caller's rows."""
        right = self.right
        resized = right._replace(rows=m) if right.transposed else right._replace(columns=m)
        return self._replace(right=resized._replace(stride=max(right.stride, resized.rows)))

    @property
    def m(self) -> int:
        """Rows of the caller's result."""
        return self.right.rows if self.right.transposed else self.right.columns


class _Descriptors:
    """cuBLASLt's descriptors of one product, destroyed with this object."""

    def __init__(self, product: _Product, bias: int) -> None:
        kind = int(_TYPES[str(product.dtype)])
        self.product = cublasLt.matmul_desc_create(int(cublas.ComputeType.COMPUTE_32F), int(CudaDataType.CUDA_R_32F))
        self.left = cublasLt.matrix_layout_create(kind, *product.left[:3])
        self.right = cublasLt.matrix_layout_create(kind, *product.right[:3])
        self.result = cublasLt.matrix_layout_create(kind, product.n, product.m, product.n)
        attribute = cublasLt.MatmulDescAttribute
        said = {attribute.TRANSA: int(product.left.transposed), attribute.TRANSB: int(product.right.transposed)}
        if product.bias:
            said |= {attribute.EPILOGUE: int(cublasLt.Epilogue.BIAS), attribute.BIAS_POINTER: bias}
        _set("matmul_desc", self.product, said)

    def __del__(self) -> None:
        for layout in (self.left, self.right, self.result):
            cublasLt.matrix_layout_destroy(layout)
        cublasLt.matmul_desc_destroy(self.product)

    @property
    def all(self) -> tuple[int, int, int, int, int]:
        """In the order in which cuBLASLt takes them; C is D, which is not read."""
        return self.product, self.left, self.right, self.result, self.result


def _set(kind: str, owner: int, said: Mapping[Any, int]) -> None:
    """Set attributes of a ``matmul_desc``, a ``matmul_preference`` or a ``matmul_algo_config`` at an address."""
    dtype_of, set_one = getattr(cublasLt, f"get_{kind}_attribute_dtype"), getattr(cublasLt, f"{kind}_set_attribute")
    for attribute, value in said.items():
        stored = np.array([value], dtype=dtype_of(attribute))
        set_one(owner, attribute, stored.ctypes.data, stored.nbytes)


class _Ready(NamedTuple):
    """What a call needs beside its tensors: descriptors, a record of the algorithm, and bytes of workspace."""

    descriptors: _Descriptors
    algorithm: Any
    workspace: int


@lru_cache
def _handle(device: int) -> int:
    """cuBLASLt's handle of a device, which must be the current one."""
    handle: int = cublasLt.create()
    return handle


def _listed(handle: int, product: _Product) -> Any:
    """The algorithms without workspace and in one part that the heuristic lists, best first: an array of results.

    Raises:
        Unsupported: there is none.
    """
    descriptors = _Descriptors(product, bias=_ALIGNED)  # any address: none is read
    found, count = np.zeros(_LISTED, dtype=_RESULT), np.zeros(1, dtype=np.int32)
    preference = cublasLt.matmul_preference_create()
    attribute = cublasLt.MatmulPreferenceAttribute
    said = {
        attribute.MAX_WORKSPACE_BYTES: 0,
        attribute.REDUCTION_SCHEME_MASK: int(cublasLt.ReductionScheme.NONE),
        **dict.fromkeys((getattr(attribute, f"MIN_ALIGNMENT_{matrix}_BYTES") for matrix in "ABCD"), product.alignment),
    }
    try:
        _set("matmul_preference", preference, said)
        cublasLt.matmul_algo_get_heuristic(
            handle, *descriptors.all, preference, _LISTED, found.ctypes.data, count.ctypes.data
        )
    except cublasLt.cuBLASLtError as error:
        raise Unsupported(f"cuBLASLt lists no algorithm for it: {error}") from error
    finally:
        cublasLt.matmul_preference_destroy(preference)
    return found[: int(count[0])]


def _in_parts(algorithm: Any, parts: int) -> Any:
    """The same algorithm with K in so many parts, whose sums are added in fp32."""
    cut = algorithm.copy()
    attribute = cublasLt.MatmulAlgoConfigAttribute
    said = {attribute.SPLITK_NUM: parts, attribute.REDUCTION_SCHEME: int(cublasLt.ReductionScheme.COMPUTE_TYPE)}
    _set("matmul_algo_config", cut.ctypes.data, said)
    return cut


@lru_cache(maxsize=1 << 12)
def _ready(chosen: Algorithm, product: _Product, bias: int, device: int) -> _Ready:
    """Descriptors and algorithm of a product; made once, since the heuristic takes longer than a small product.

    Raises:
        Unsupported: cuBLASLt has no such algorithm for it.
    """
    handle, descriptors = _handle(device), _Descriptors(product, bias)
    listed = _listed(handle, product.at(chosen.rows) if chosen.rows else product)
    checked = np.zeros(1, dtype=_RESULT)
    # An algorithm that cannot cut K, or cannot have this M, gives way to the next.
    for place in range(min(chosen.place, len(listed)) - 1, len(listed)):
        algorithm = listed["algo"][place : place + 1].copy()
        if chosen.parts > 1:
            algorithm = _in_parts(algorithm, chosen.parts)
        try:
            cublasLt.matmul_algo_check(handle, *descriptors.all, algorithm.ctypes.data, checked.ctypes.data)
        except cublasLt.cuBLASLtError:
            continue
        workspace = int(checked["workspace_size"][0])
        if workspace <= _WORKSPACE_BYTES:
            return _Ready(descriptors, algorithm, workspace)
    raise Unsupported(f"cuBLASLt lists no {chosen.label} for it")


def _stored(matrix: torch.Tensor) -> tuple[torch.Tensor, _Operand]:
    """A matrix, copied if neither of its strides is one, and how cuBLASLt shall see its transpose."""
    (rows, columns), (row, column) = matrix.shape, matrix.stride()
    if column == 1 and row >= columns:
        return matrix, _Operand(columns, rows, row, transposed=False)
    if row == 1 and column >= rows:
        return matrix, _Operand(rows, columns, column, transposed=True)
    return matrix.contiguous(), _Operand(columns, rows, columns, transposed=False)


def _alignment(*tensors: torch.Tensor) -> int:
    addresses = _ALIGNED
    for tensor in tensors:
        addresses |= tensor.data_ptr()
    return addresses & -addresses


def _product(chosen: Algorithm, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """(M, K) by (K, N), and a bias (N,): (M, N) in their dtype."""
    result = a.new_empty((len(a), b.shape[1]))
    if not result.numel():
        return result
    (left, stored_left), (right, stored_right) = _stored(b), _stored(a)
    bias = None if bias is None else bias.contiguous()
    operands = (left, right) if bias is None else (left, right, bias)
    product = _Product(stored_left, stored_right, a.dtype, bias is not None, _alignment(*operands))
    device = a.device.index
    ready = _ready(chosen, product, 0 if bias is None else bias.data_ptr(), device)
    # Of this call alone, since calls on other streams may be under way.
    workspace = a.new_empty(ready.workspace, dtype=torch.uint8) if ready.workspace else None
    described, left_layout, right_layout, layout, _ = ready.descriptors.all
    cublasLt.matmul(
        _handle(device), described, _ONE, left.data_ptr(), left_layout, right.data_ptr(), right_layout,
        _ZERO, result.data_ptr(), layout, result.data_ptr(), layout, ready.algorithm.ctypes.data,
        0 if workspace is None else workspace.data_ptr(), ready.workspace,
        torch.cuda.current_stream(device).cuda_stream,
    )  # fmt: skip
    return result


def mm(chosen: Algorithm, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(M, K) by (K, N)."""
    return _product(chosen, a, b, None)


def linear(chosen: Algorithm, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """(M, K) by (N, K) transposed, and (N,)."""
    return _product(chosen, x, weight.t(), bias)


def addmm(chosen: Algorithm, bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(N,) and (M, K) by (K, N)."""
    return _product(chosen, a, b, bias)


def kernels(algorithm: Algorithm) -> dict[str, Kernel]:
    """The kernels of one algorithm, by operator."""
    found: dict[str, Kernel] = {"mm": mm, "linear": linear, "linear_bias": linear, "addmm": addmm}
    return {operator: partial(function, algorithm) for operator, function in found.items()}
