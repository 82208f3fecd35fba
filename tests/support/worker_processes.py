"""Whether worker processes live, and what a process prints that starts one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from support.processes import LIMIT_S, environment


def living(pid: int) -> bool:
    """Whether a process or a thread of it runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False


def printed_by(code: str, log: Path) -> list[str]:
    """What a process prints that starts a worker with this log."""
    command = [sys.executable, "-c", code, str(log)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=True)
    return done.stdout.splitlines()
