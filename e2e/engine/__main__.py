"""Entry of an engine's process: ``python -m e2e.engine FD PARENT``; see `kernels_bench.workers`."""

from kernels_bench.workers.lifetime import attach


def main() -> None:
    """Answer what the parent asks."""
    connection = attach()
    from e2e.engine.worker import serve

    serve(connection)


if __name__ == "__main__":
    main()
