"""Matrix products.  A row is a row of A (or, for `bmm`, one matrix pair of the batch)."""

from __future__ import annotations

from typing import Any, ClassVar

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators import model_shapes as models
from kernels_bench.operators.base import Operator, RowTensors, Tensors, item_sizes, roundoff
from kernels_bench.operators.inputs.rows import bell_shaped, further_rows, paired, row_table
from kernels_bench.records.cases import Precision, Shape


def exact_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``a @ b`` in float64, for (…, M, K) and (…, K, N) with at most one leading dimension."""
    # vLLM's batch-invariant mode replaces mm, addmm, matmul and bmm for the whole process; baddbmm it leaves
    # alone, so that a reference never runs on the kernels it judges.
    left, right = (t.double() if t.dim() == 3 else t.double()[None] for t in (a, b))
    zero = torch.zeros(1, 1, 1, dtype=torch.float64, device=a.device)
    product = torch.baddbmm(zero, left, right, beta=0)
    squeezed: torch.Tensor = product if a.dim() == 3 else product[0]
    return squeezed


def accumulation_allowance(a: torch.Tensor, b: torch.Tensor, exact: torch.Tensor, out: torch.dtype) -> torch.Tensor:
    """Error that an honest GEMM may make, (…, M, N) in float64.

    With s the root of the sum of squared products, partial sums are about s at most, so K roundings in fp32
    add up to about sqrt(K) u s (random walk; Higham & Mary, *A New Approach to Probabilistic Rounding Error
    Analysis*, SISC 2019); 16 leaves room for the tail over millions of elements and for the matrix units'
    truncation, and is still a fifth of what TF32 would show.  A 16-bit result adds its own rounding, twice
    where a bias follows, and split-K kernels may join their parts in 16 bits (torch's default on CUDA allows
    it): a rounding a part, of sums that may be larger than the result.
    """
    k = a.shape[-1]
    size = exact_product(a.double() ** 2, b.double() ** 2).sqrt_()
    unit = roundoff(torch.float32)
    bound = size * (16 * unit * k**0.5)
    narrow = roundoff(out)
    if out is not torch.float32:
        bound += 8 * narrow * size
    allowed: torch.Tensor = bound.add_(exact.abs(), alpha=2 * narrow).add_(2.0**-23 if out is torch.float16 else 1e-37)
    return allowed


class Gemm(Operator):
    """C = A B with A (M, K); the weight is kept (N, K) and given as the operator's callers would."""

    dims = ("n", "k")
    precisions: ClassVar[tuple[str, ...]] = ("bf16", "bf16:fp32", "fp16", "fp32")
    bias = False

    def weights(self, shape: Shape, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """B as (K, N) in rows, and the bias (N,) if there is one."""
        weight = paired(seed, "weight", shape.columns, shape.k, dtype, device)
        return (weight.t().contiguous(), *self._bias(shape, dtype, seed, device))

    def _bias(self, shape: Shape, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        return (bell_shaped(seed, "bias", 0, 1, shape.columns, device)[0].to(dtype),) if self.bias else ()

    def arguments(self, rows: RowTensors, weights: Tensors) -> tuple[Any, ...]:
        """(A, B)."""
        return (rows[0], *weights)

    def matrix(self, weights: Tensors) -> torch.Tensor:
        """B, (K, N)."""
        return weights[0]

    def result_shapes(self, shape: Shape, m: int) -> tuple[tuple[int, ...], ...]:
        """(M, N)."""
        return ((m, shape.columns),)

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """A B, plus the bias."""
        product = exact_product(rows[0], self.matrix(weights))
        return (product + weights[1].double() if self.bias else product,)

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """See `accumulation_allowance`; a kernel may start from the bias, which every partial sum then holds."""
        bound = accumulation_allowance(rows[0], self.matrix(weights), exact[0], out)
        if not self.bias:
            return (bound,)
        narrow = roundoff(out) * (2 if out is torch.float32 else 8)
        unit = narrow + 16 * roundoff(torch.float32) * rows[0].shape[-1] ** 0.5
        return (bound + weights[1].double().abs() * unit,)

    def probe_sum_count(self, shape: Shape, m: int) -> int:
        """Every column of B is a sum of its own, and all rows of A, which are ones, add the same."""
        return shape.columns

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """Ones (M, K), and ``terms`` as B's columns; the bias is zero."""
        bias = (terms.new_zeros(shape.columns),) if self.bias else ()
        return (terms.new_ones(m, shape.k),), (self.stored(terms), *bias)

    def stored(self, columns: torch.Tensor) -> torch.Tensor:
        """B's columns (N, K) as the operator's callers hold B."""
        return columns.t().contiguous()

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(M, N)."""
        return outputs[0]

    def bytes_moved(self, shape: Shape, precision: Precision, m: int) -> int:
        """A, B, C and the bias."""
        wide, out = item_sizes(precision)
        n, k = shape.columns, shape.k
        return wide * (m * k + n * k + n * self.bias) + out * m * n

    def operations(self, shape: Shape, m: int) -> int:
        """A multiplication and an addition for each of M N K products."""
        return 2 * m * shape.columns * shape.k


class Mm(Gemm):
    """``torch.mm(a, b)``."""

    name = "mm"
    summary = "C[M,N] = A[M,K] B[K,N]"
    shapes = models.projections()
    usual = ("qwen3-8b/o_proj", "deepseek-v3/router", "unaligned")
    quick = ("qwen3-8b/o_proj", "unaligned/0")


class AddMm(Gemm):
    """``torch.addmm(bias, a, b)``."""

    name = "addmm"
    summary = "C[M,N] = bias[N] + A[M,K] B[K,N]"
    shapes = models.projections()
    usual = ("qwen2.5-7b/qkv_proj", "unaligned/0", "unaligned/1")
    quick = ("qwen2.5-7b/qkv_proj",)
    bias = True

    def arguments(self, rows: RowTensors, weights: Tensors) -> tuple[Any, ...]:
        """(bias, A, B)."""
        return (weights[1], rows[0], weights[0])


class Linear(Gemm):
    """``torch.nn.functional.linear(x, weight)``: the weight is (N, K) in rows, as checkpoints hold it."""

    name = "linear"
    summary = "y[M,N] = x[M,K] weight[N,K]^T"
    shapes = models.projections()
    usual: ClassVar[tuple[str, ...]] = ("qwen3-8b", "deepseek-v3/router", "unaligned/0")
    quick: ClassVar[tuple[str, ...]] = ("qwen3-8b/o_proj",)

    def weights(self, shape: Shape, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """The weight (N, K), and the bias (N,) if there is one."""
        weight = paired(seed, "weight", shape.columns, shape.k, dtype, device)
        return (weight, *self._bias(shape, dtype, seed, device))

    def matrix(self, weights: Tensors) -> torch.Tensor:
        """The weight's transpose, (K, N)."""
        return weights[0].t()

    def stored(self, columns: torch.Tensor) -> torch.Tensor:
        """The weight (N, K)."""
        return columns


class LinearBias(Linear):
    """``torch.nn.functional.linear(x, weight, bias)``."""

    name = "linear_bias"
    summary = "y[M,N] = x[M,K] weight[N,K]^T + bias[N]"
    usual = ("qwen2.5-7b/qkv_proj", "unaligned/0", "unaligned/1")
    quick = ("unaligned/0",)
    bias = True


class Bmm(Operator):
    """``torch.bmm(a, b)`` where the batch is the batch: a row is one pair of matrices, (T, K) and (K, N)."""

    name = "bmm"
    summary = "C[M,16,N] = A[M,16,K] B[M,K,N]; a row is one pair of matrices"
    dims = ("n", "k")
    shapes = models.entries()
    quick = ("qwen3-8b/scores", "unaligned/entry")
    precisions = ("bf16", "bf16:fp32", "fp16", "fp32")
    tall = 16

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """A (rows, T, K) and B (rows, K, N); what follows the ordinary rows is hostile or special in A alone."""
        n, k = shape.columns, shape.k
        left = row_table(seed, "rows", count * self.tall, k, dtype, device).view(count, self.tall, k)
        further = further_rows(k, dtype, device)
        right = [paired(seed, "weight", count * n, k, dtype, device)]
        right.append(paired(seed, "further weight", len(further) * n, k, dtype, device))
        left = torch.cat([left, further[:, None].expand(-1, self.tall, -1)])
        return left, torch.cat(right).view(-1, n, k).transpose(1, 2)

    def weights(self, shape: Shape, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """None: every entry brings its own."""
        return ()

    def arguments(self, rows: RowTensors, weights: Tensors) -> tuple[Any, ...]:
        """(A, B)."""
        return rows

    def result_shapes(self, shape: Shape, m: int) -> tuple[tuple[int, ...], ...]:
        """(M, T, N)."""
        return ((m, self.tall, shape.columns),)

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """A B, entry by entry."""
        return (exact_product(rows[0], rows[1]),)

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """See `accumulation_allowance`."""
        return (accumulation_allowance(rows[0], rows[1], exact[0], out),)

    def probe_sum_count(self, shape: Shape, m: int) -> int:
        """Every column of an entry's B; all entries are alike."""
        return shape.columns

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """Ones (M, T, K), and ``terms`` as the columns of every entry's B, which lies in memory as gathered ones do."""
        right = terms.t().expand(m, -1, -1).contiguous()
        return (terms.new_ones(m, self.tall, shape.k), right), ()

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(M T, N)."""
        return outputs[0].flatten(0, 1)

    def row_sizes(self, shape: Shape) -> tuple[int, ...]:
        """T K and K N."""
        return self.tall * shape.k, shape.k * shape.columns

    def bytes_moved(self, shape: Shape, precision: Precision, m: int) -> int:
        """A, B and C."""
        wide, out = item_sizes(precision)
        n, k = shape.columns, shape.k
        return m * (wide * (self.tall * k + n * k) + out * self.tall * n)

    def operations(self, shape: Shape, m: int) -> int:
        """A multiplication and an addition for each of M T N K products."""
        return 2 * m * self.tall * shape.columns * shape.k


class BmmHeads(Operator):
    """``torch.bmm`` where the batch is the heads, as in latent attention: a row is a token, (H, K)."""

    name = "bmm_heads"
    summary = "C[H,M,N] = A[H,M,K] W[H,K,N]; a row is one token over all heads"
    dims = ("b", "n", "k")
    shapes = models.heads()
    usual = ("deepseek-v3", "unaligned")
    quick = ("deepseek-v3/w_uk",)
    precisions = ("bf16", "bf16:fp32", "fp16", "fp32")

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """Tokens, (rows, H, K)."""
        heads, k = shape.b or 1, shape.k
        # Token i takes its kind from the generator's row i, so all its heads are of one kind.
        flat = torch.stack([row_table(seed, f"head{h}", count, k, dtype, device) for h in range(heads)], 1)
        return (torch.cat([flat, further_rows(k, dtype, device)[:, None].expand(-1, heads, -1)]),)

    def weights(self, shape: Shape, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """W, (H, K, N)."""
        heads, n, k = shape.b or 1, shape.columns, shape.k
        return (paired(seed, "weight", heads * n, k, dtype, device).view(heads, n, k).transpose(1, 2),)

    def arguments(self, rows: RowTensors, weights: Tensors) -> tuple[Any, ...]:
        """(A as a transposed view, W)."""
        return rows[0].transpose(0, 1), weights[0]

    def split_result(self, result: Any) -> RowTensors:
        """(M, H, N)."""
        results = super().split_result(result)
        return tuple(r.transpose(0, 1) if isinstance(r, torch.Tensor) and r.dim() == 3 else r for r in results)

    def result_shapes(self, shape: Shape, m: int) -> tuple[tuple[int, ...], ...]:
        """(M, H, N)."""
        return ((m, shape.b or 1, shape.columns),)

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """A W, head by head."""
        return (exact_product(rows[0].transpose(0, 1), weights[0]).transpose(0, 1),)

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """See `accumulation_allowance`."""
        by_head = exact[0].transpose(0, 1)
        bound = accumulation_allowance(rows[0].transpose(0, 1), weights[0], by_head, out)
        return (bound.transpose(0, 1),)

    def probe_sum_count(self, shape: Shape, m: int) -> int:
        """Every column of a head's W; all heads are alike."""
        return shape.columns

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """Ones (M, H, K), and ``terms`` as the columns of every head's W."""
        heads = shape.b or 1
        weight = terms.expand(heads, -1, -1).contiguous().transpose(1, 2)
        return (terms.new_ones(m, heads, shape.k),), (weight,)

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(M H, N)."""
        return outputs[0].flatten(0, 1)

    def row_sizes(self, shape: Shape) -> tuple[int, ...]:
        """H K."""
        return ((shape.b or 1) * shape.k,)

    def bytes_moved(self, shape: Shape, precision: Precision, m: int) -> int:
        """A, W and C."""
        wide, out = item_sizes(precision)
        heads, n, k = shape.b or 1, shape.columns, shape.k
        return heads * (wide * (m * k + n * k) + out * m * n)

    def operations(self, shape: Shape, m: int) -> int:
        """A multiplication and an addition for each of H M N K products."""
        return 2 * (shape.b or 1) * m * shape.columns * shape.k


OPERATORS = (Mm(), Linear(), LinearBias(), AddMm(), Bmm(), BmmHeads())
