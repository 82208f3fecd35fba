"""How a package that is missing gets into the environment of this process, whichever ``pip`` the shell would find."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def pip_install(*words: str) -> str:
    """The line that installs it, to be pasted where this process runs.

    Args:
        words: what follows ``pip install``: options, requirements.
    """
    return shlex.join([from_here(Path(sys.executable)), "-m", "pip", "install", *words])


def from_here(path: Path) -> str:
    """A path as one writes it in the current directory, if it lies somewhere below; else the path itself."""
    here = Path.cwd()
    # A program beside one needs its directory, or the shell would look for it elsewhere.
    return str(path.relative_to(here) if here in path.parents[1:] else path)
