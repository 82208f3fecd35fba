"""What a command and its workers leave in the temporary directory lies in one of the command's own, which ends with it.

A process that is killed removes nothing, and neither do the libraries in it; so the guard does.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
import tempfile
from functools import cache
from pathlib import Path

from kernels_bench.workers.orphan_guard import the_guard
from profiles.instruments.ranges import under_nsys

LONGEST_DIRECTORY = 64
"""Characters of a path in which an engine can still name its sockets; the kernel takes 107, vLLM's own names are 36."""


@cache
def scratch() -> Path:
    """This process's own directory in the temporary one; it is removed when the process ends, however it ends."""
    path = Path(tempfile.gettempdir()) / f"samebits-{secrets.token_hex(6)}"
    the_guard().remove(path)
    path.mkdir(mode=0o700)
    return path


def variables() -> dict[str, str]:
    """What a worker's environment has for its own temporary files to lie there.

    Under Nsight Systems, which meets the processes that it records in the temporary directory, it is nothing.
    """
    if under_nsys() or len(str(scratch())) > LONGEST_DIRECTORY:
        return {}
    return {"TORCHINDUCTOR_CACHE_DIR": _compiled(), **os.environ, "TMPDIR": str(scratch())}


def _compiled() -> str:
    """Where torch keeps what it has compiled: not in a directory that is removed, but where it usually does."""
    return os.path.join(tempfile.gettempdir(), "torchinductor_" + re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser()))
