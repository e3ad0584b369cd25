"""A worker: does what it is given, one unit after the other; it begins with the package alone."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import resource
import signal
import sys
import time
from multiprocessing.connection import Connection
from threading import Lock, Thread

from vedette.runtimes.cluster.answer import answered

__all__ = ["BEAT", "main"]

BEAT = 1.0
"""Seconds between two signs of life while a unit is done."""

IDLE = 60.0
"""Seconds after which a worker without work goes away: longer than the tables between two methods take to score, as a rule."""

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve the process that began this one, through the connection it left open: a worker's whole life."""
    handle, parent, memory = (int(argument) for argument in sys.argv[1:])
    _obey(parent)
    faulthandler.enable()
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    _serve(Connection(handle))


def _serve(connection: Connection) -> None:
    speaking = Lock()

    def beat() -> None:
        while True:
            time.sleep(BEAT)
            with speaking:
                connection.send_bytes(b"")

    connection.send_bytes(b"ready")
    Thread(target=beat, daemon=True).start()
    while connection.poll(IDLE):
        reply = answered(connection.recv_bytes())
        with speaking:
            connection.send_bytes(reply)


def _obey(parent: int) -> None:
    """End with the process that began this one, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    main()
