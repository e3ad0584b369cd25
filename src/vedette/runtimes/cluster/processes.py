"""Worker processes of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection, Pipe
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO

from vedette.errors import RecipeError, StorageError
from vedette.runtimes.cluster.pool import Event, Pool, Worker
from vedette.runtimes.cluster.shelf import Files, Packed

__all__ = ["Processes"]

SURROUNDINGS = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    # Memory that a step gives back and the next one needs again stays: a quarter of an LSTM's time went into fetching it anew (glibc).
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}
"""Of a worker, set before it begins."""

ENDING = 2.0
"""Seconds in which a process that speaks no more must end."""

LOG = 4000
"""Bytes of what a worker wrote last that are told when it dies."""


class _Process(Worker):
    """A worker process, and the thread that speaks with it: neither a full pipe nor a stopped process holds anybody else up."""

    def __init__(self, place: int, memory: int | None, events: SimpleQueue[Event]) -> None:
        super().__init__(place, socket.gethostname())
        self.calls, self.events = SimpleQueue[bytes | None](), events
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it is the process's, and goes with it
        self.connection, theirs = Pipe()
        try:
            with theirs:
                self.process = _begun(theirs, memory, self.log)
        except OSError as error:
            self.connection.close()
            self.log.close()
            raise StorageError(f"no worker process can be started ({error}); take fewer workers, or one") from None
        self.pid = self.process.pid
        self.thread = Thread(target=self._speak, name=f"worker {self.pid}", daemon=True)
        self.thread.start()

    def _speak(self) -> None:
        try:
            self.connection.recv_bytes()
            reply = b""
            while True:
                self.heard = time.monotonic()
                self.events.put(Event(self, reply))
                call = self.calls.get()
                if call is None:
                    return
                self.connection.send_bytes(call)
                while not (reply := self.connection.recv_bytes()):
                    self.heard = time.monotonic()
        except Exception:
            # Its end, as a rule; or an answer for which there is no memory here.
            self.events.put(Event(self, None))

    def told(self) -> Event:
        """Return the event of this worker's end, once that has come."""
        try:
            status = self.process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        if status == 0:
            return Event(self, None)
        self.log.seek(max(0, self.log.seek(0, os.SEEK_END) - LOG))
        said = self.log.read().decode(errors="replace").strip()
        if status > 0:
            return Event(self, None, f"it ended with status {status}", said)
        more = "; there may be too little memory, look at the system's log" if status == -signal.SIGKILL else ""
        return Event(self, None, f"it was ended by {signal.Signals(-status).name}{more}", said)

    def end(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.calls.put(None)
        self.thread.join()
        self.connection.close()
        self.log.close()


def _begun(connection: Connection, memory: int | None, log: IO[bytes]) -> subprocess.Popen[bytes]:
    handle = connection.fileno()
    # Ctrl-C goes to a terminal's whole group: of a session of its own, a worker never hears of it, and ends with the run.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "vedette.runtimes.cluster.worker", str(handle), str(os.getpid()), str(memory or 0)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=(handle,),
        start_new_session=True,
        env={**os.environ, **SURROUNDINGS},
    )


class Processes(Pool):
    """Worker processes of this machine, one thread each; who ends is replaced when there is work.

    Parameters
    ----------
    count
        How many; 0: one for each core.
    memory
        Bytes of address space of each; None: as many as there are.

    Raises
    ------
    RecipeError
        Too little memory to begin with.
    """

    shelf: Files

    def __init__(self, count: int = 0, memory: int | None = None) -> None:
        if memory is not None and memory < LEAST:
            raise RecipeError(f"a worker does not begin with {memory:,} bytes of memory; {LEAST:,} would do, with torch many times that")
        self.memory, self.shelf = memory, Files()
        self._size = count or cores()
        self._places: dict[int, _Process | None] = dict.fromkeys(range(self._size))
        self._events: SimpleQueue[Event] = SimpleQueue()

    @property
    def workers(self) -> list[Worker]:
        return [worker for worker in self._places.values() if worker is not None]

    @property
    def size(self) -> int:
        return self._size

    @property
    def usable(self) -> int:
        return len(self._places)

    def fill(self, wanted: int) -> None:
        for place, worker in list(self._places.items())[:wanted]:
            if worker is None:
                self._places[place] = _Process(place, self.memory, self._events)

    def give(self, worker: Worker, unit: Packed) -> None:
        assert isinstance(worker, _Process)
        worker.calls.put(unit.content)

    def events(self, timeout: float) -> list[Event]:
        found: list[Event] = []
        try:
            while True:
                event = self._events.get(timeout=0 if found else timeout)
                worker = self._places.get(event.worker.place)
                if worker is not None and worker is event.worker:
                    worker.ready = True
                    found.append(event if event.reply is not None else worker.told())
        except Empty:
            return found

    def dismiss(self, worker: Worker, for_good: bool = False) -> None:
        assert isinstance(worker, _Process)
        worker.end()
        if for_good:
            del self._places[worker.place]
        else:
            self._places[worker.place] = None

    def close(self) -> None:
        for worker in self._places.values():
            if worker is not None:
                worker.end()
        self._places.clear()
        self.shelf.close()


LEAST = 256 << 20
"""Bytes of address space without which a worker does not come as far as its first unit."""


def cores() -> int:
    """Return how many cores this process may use."""
    try:
        from joblib import cpu_count
    except ImportError:
        return len(os.sched_getaffinity(0))
    return int(cpu_count())
