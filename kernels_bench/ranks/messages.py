"""What the host of some ranks tells each of them, and where its data lie in the memory that they share."""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass

from kernels_bench.device.lazy_torch import torch

_ALIGNED = 256  # bytes


@dataclass(frozen=True)
class Layout:
    """One batch's inputs and results, in one piece of memory.

    Attributes:
        ranks: R.
        rows: of each rank's input.
        columns: of each row of an input.
        result_columns: of each row of a result; 0 where none belongs to these inputs.
        dtype: of both, by torch's name of it.
        scattered: whether each rank's result is its share of the rows, and not all of them.
    """

    ranks: int
    rows: int
    columns: int
    result_columns: int
    dtype: str
    scattered: bool

    @property
    def result_rows(self) -> int:
        """Rows of each rank's result."""
        return self.rows // self.ranks if self.scattered else self.rows

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        return self._results_at + self._bytes(self.result_rows, self.result_columns)

    @property
    def _results_at(self) -> int:
        return -(-self._bytes(self.rows, self.columns) // _ALIGNED) * _ALIGNED

    def _bytes(self, rows: int, columns: int) -> int:
        return self.ranks * rows * columns * self._torch_dtype.itemsize

    @property
    def _torch_dtype(self) -> torch.dtype:
        found = getattr(torch, self.dtype)
        assert isinstance(found, torch.dtype)
        return found

    def tensors(self, memory: mmap.mmap) -> tuple[torch.Tensor, torch.Tensor]:
        """Every rank's input (R, rows, columns) and result (R, result rows, their columns), as views of some memory."""
        inputs = self._tensor(memory, 0, self.rows, self.columns)
        return inputs, self._tensor(memory, self._results_at, self.result_rows, self.result_columns)

    def _tensor(self, memory: mmap.mmap, at: int, rows: int, columns: int) -> torch.Tensor:
        shape = (self.ranks, rows, columns)
        if not columns:
            return torch.empty(shape, dtype=self._torch_dtype)
        return torch.frombuffer(memory, dtype=self._torch_dtype, offset=at, count=math.prod(shape)).view(shape)


@dataclass(frozen=True)
class Begin:
    """To the parent of ranks: become a group.

    Descriptors follow: where it tells of ranks that ended, the memory of their calls' numbers, and each rank's host.

    Attributes:
        ranks: how many.
        backend: see `kernels_bench.ranks.group.RankGroup`.
        group: tells it from others in a profiler's report.
    """

    ranks: int
    backend: str
    group: str


@dataclass(frozen=True)
class Put:
    """Take the inputs of a batch, which the host has written.

    Attributes:
        place: number of the piece of memory.
        layout: of the batch.
        size: bytes of the memory, whose file descriptor follows; 0 of memory that is known.
        dropped: places that are no longer needed.
    """

    place: int
    layout: Layout
    size: int
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True)
class Go:
    """Compute a collective of what was put at some places, all ranks together.

    Attributes:
        places: where; the result belongs to the first.
        collective: ``module:function`` of what computes it, see `kernels_bench.ranks.member.Collective`.
        number: of the call, which the rank notes as begun.
        graph: whether each rank replays it from a CUDA graph, which it captures first where it has none.
    """

    places: tuple[int, ...]
    collective: str
    number: int
    graph: bool = False


@dataclass(frozen=True)
class Sampling:
    """How ranks are to time something.

    Attributes:
        stopwatch: ``module:class`` of what times it, made once on each rank from the rank's device.
        what: one of its ways: ``estimate``, ``rough``, ``warm`` or ``cold``.
        estimate_us: about how long a call takes, the same on all ranks.
        rest: whether to let the card cool down first.
    """

    stopwatch: str
    what: str
    estimate_us: float
    rest: bool


@dataclass(frozen=True)
class Measure:
    """Time a collective, all ranks together; each answers with what it `Measured`."""

    go: Go
    sampling: Sampling


@dataclass(frozen=True)
class Measured:
    """What one rank's samples were; every rank has as many.

    Attributes:
        samples: microseconds a call, and the SM clock in MHz where it is known.
        calls: of a sample.
        method: how they were taken, see `kernels_bench.timing.meter.Meter`.
        overhead_us: what was subtracted from each.
    """

    samples: tuple[tuple[float, float | None], ...]
    calls: int
    method: str
    overhead_us: float


@dataclass(frozen=True)
class Write:
    """Write what torch's profiler has recorded so far, if it is asked to."""
