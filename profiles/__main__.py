"""``python -m profiles``, and the installed command ``samebits-profiles``."""

from profiles.cli import main

if __name__ == "__main__":
    main()
