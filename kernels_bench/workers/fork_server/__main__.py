"""Entry of the process that forks: ``python -m kernels_bench.workers.fork_server FD PARENT``."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import tempfile
from multiprocessing.connection import Connection

from kernels_bench.parent import die_with_parent, name_process
from kernels_bench.workers.fork_server.client import LONGEST, Asked, Begun, Ended, Refused
from kernels_bench.workers.lifetime import ended_children, made_to_stay, wait_passively
from profiles.run_files.record import make_all_checks


def main() -> None:
    """Fork as often as the parent asks for it; in each child, answer what the parent asks there."""
    descriptor, parent = (int(word) for word in sys.argv[1:3])
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    wait_passively()
    with made_to_stay():
        from kernels_bench.workers.arm.worker import serve

        make_all_checks()
    connection = _forked(socket.socket(fileno=descriptor))
    if connection is None:
        os._exit(0)  # Python would take apart what was imported, for a fifth of a second in which the parent waits
    serve(connection)


def _forked(control: socket.socket) -> Connection | None:
    """In each child its connection; in this process, when the parent hangs up, none."""
    heard, noted = socket.socketpair()
    heard.setblocking(False)
    noted.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(noted.fileno())
    here = os.getpid()
    while True:
        ready, _, _ = select.select([control, heard], [], [])
        if heard in ready:
            heard.recv(LONGEST)
            _tell_who_ended(control)
        if control not in ready:
            continue
        data, descriptors, _, _ = socket.recv_fds(control, LONGEST, 3)
        if not data:
            return None
        asked: Asked = json.loads(data)
        if _is_child(control):
            signal.set_wakeup_fd(-1)
            heard.close()
            noted.close()
            with control:
                connection = _begun(asked, here, *descriptors)
                # Only now: who kills it kills its group, which it has to have.
                control.send(json.dumps(Begun(begun=os.getpid())).encode())
            return connection
        for theirs in descriptors:
            os.close(theirs)


def _is_child(control: socket.socket) -> bool:
    """Fork; where there is no memory for another process the parent is told, and those that there are go on."""
    try:
        return os.fork() == 0
    except OSError as error:
        control.send(json.dumps(Refused(refused=str(error))).encode())
        return False


def _tell_who_ended(control: socket.socket) -> None:
    for child, code in ended_children():
        control.send(json.dumps(Ended(ended=child, code=code)).encode())


def _begun(asked: Asked, parent: int, connection: int, output: int, directory: int) -> Connection:
    """Make of this process what would have been started, and give its connection."""
    os.setsid()
    die_with_parent(parent)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    os.fchdir(directory)
    os.close(directory)
    os.environ.clear()
    os.environ.update(asked["environment"])
    wait_passively()
    name_process(asked["name"])
    tempfile.tempdir = None  # it stands in the environment
    sys.argv[1:] = [str(connection), str(parent)]  # as on the command line of a program of its own
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()  # as of a process of its own; torch's and Python's see to that themselves
    return Connection(connection)


if __name__ == "__main__":
    main()
