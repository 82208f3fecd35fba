"""``python -m e2e``, and the installed command ``samebits-e2e``."""

import runpy
from pathlib import Path


def main() -> None:
    """Entry point."""
    # By its path: which ``profiles`` an import would find is the very question.
    invocation = runpy.run_path(str(Path(__file__).parents[1] / "profiles" / "invocation.py"))
    invocation["begin"]("e2e")
    invocation["refuse_others"]("e2e", "kernels_bench", "profiles")
    from e2e.cli import main as run

    run()


if __name__ == "__main__":
    main()
