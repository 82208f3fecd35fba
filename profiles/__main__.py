"""``python -m profiles``, and the installed command ``samebits-profiles``."""

from profiles.invocation import begin


def main() -> None:
    """Entry point."""
    begin("profiles")
    from profiles.cli import main as run

    run()


if __name__ == "__main__":
    main()
