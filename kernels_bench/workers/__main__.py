"""Entry of a worker's process: ``python -m kernels_bench.workers FD PARENT``.

Its ties to the parent are made before anything heavy is imported, so that no moment is left in which it could
outlive the command.
"""

from __future__ import annotations

from kernels_bench.workers.lifetime import attach, made_to_stay, wait_passively


def main() -> None:
    """Answer what the parent asks."""
    connection = attach()
    wait_passively()
    with made_to_stay():
        from kernels_bench.workers.arm.worker import serve

    serve(connection)


if __name__ == "__main__":
    main()
