"""Entry of an engine's process: ``python -m e2e.launch FD PARENT``; see `kernels_bench.launch`."""

from kernels_bench.launch import attach


def main() -> None:
    """Answer what the parent asks."""
    connection = attach()
    from e2e.engine import serve

    serve(connection)


if __name__ == "__main__":
    main()
