"""Entry of an engine's process: ``python -m e2e.engine FD PARENT``; see `kernels_bench.workers`."""

from e2e.engine.shared_memory import have_shared_memory_freed
from kernels_bench.workers.lifetime import attach


def main() -> None:
    """Answer what the parent asks."""
    connection = attach()
    have_shared_memory_freed()
    from e2e.engine.worker import serve

    serve(connection)


if __name__ == "__main__":
    main()
