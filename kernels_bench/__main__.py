"""``python -m kernels_bench``."""

from kernels_bench.cli import main

if __name__ == "__main__":
    main()
