"""Entry of a process that scores faults: ``python -m kernels_bench.faults FD PARENT``, started by `run_all`."""

from __future__ import annotations

import torch

from kernels_bench.faults.run import answer
from kernels_bench.workers.lifetime import attach, requests


def main() -> None:
    """Answer what the parent asks."""
    connection = attach()
    torch.set_num_threads(1)  # kernels are small, and every core has a process
    for request in requests(connection):
        connection.send(answer(request))


if __name__ == "__main__":
    main()
