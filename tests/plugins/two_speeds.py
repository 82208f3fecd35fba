"""Four arms: two of the same bits, each slow where the other is fast; one of other bits; one whose bits change."""

import time
from collections.abc import Callable

from torch import Tensor

from kernels_bench.arms import Arm, Kernel

SLOW_S = 0.0005


def _rows(a: Tensor, flipped: bool = False) -> Tensor:
    """Each row's products added one after the other, or the last first."""
    total = a[:, 0] * 0
    for column in range(a.shape[1])[:: -1 if flipped else 1]:
        total = total + a[:, column]
    return total


def _mean(flipped: Callable[[int], bool], slow: Callable[[int], bool]) -> Kernel:
    def kernel(x: Tensor) -> Tensor:
        if slow(len(x)):
            time.sleep(SLOW_S)
        return _rows(x, flipped(len(x))) / x.shape[1]

    return kernel


def _arm(name: str, flipped: Callable[[int], bool], slow: Callable[[int], bool]) -> Arm:
    return Arm(name=name, kernels=lambda: {"mean": _mean(flipped, slow)}, offers=("mean",), claims=False)


def _never(_: int) -> bool:
    return False


ARMS = (
    _arm("few", _never, lambda m: m >= 16),
    _arm("many", _never, lambda m: m < 16),
    _arm("backwards", lambda _: True, lambda _: True),
    _arm("either", lambda m: m < 16, _never),
)
