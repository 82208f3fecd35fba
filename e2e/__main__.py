"""``python -m e2e``."""

from e2e.cli import main

if __name__ == "__main__":
    main()
