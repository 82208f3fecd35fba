"""``python -m profiles``."""

from profiles.cli import main

if __name__ == "__main__":
    main()
