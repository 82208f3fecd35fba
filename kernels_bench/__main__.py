"""``python -m kernels_bench``, and the installed command ``kernels-bench``."""

import runpy
from pathlib import Path


def main() -> None:
    """Entry point."""
    # By its path: which ``profiles`` an import would find is the very question.
    invocation = runpy.run_path(str(Path(__file__).parents[1] / "profiles" / "invocation.py"))
    invocation["begin"]("kernels_bench")
    invocation["refuse_others"]("kernels_bench", "profiles")
    from kernels_bench.cli import main as run

    run()


if __name__ == "__main__":
    main()
