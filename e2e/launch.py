"""Entry of an engine's process: ``python -m e2e.launch FD PARENT``; see `kernels_bench.launch`."""

from kernels_bench.launch import attach, take_descendants_along


def main() -> None:
    """Answer what the parent asks."""
    connection = attach()
    take_descendants_along()  # an engine on several GPUs has a process for each
    from e2e.engine import serve

    serve(connection)


if __name__ == "__main__":
    main()
