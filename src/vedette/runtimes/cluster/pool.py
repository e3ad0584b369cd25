"""What carries units of work out: workers that are given one unit at a time, whoever runs them."""

from __future__ import annotations

import atexit
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

from vedette.runtimes.cluster.shelf import Packed, Shelf

__all__ = ["Event", "Hiring", "Pool", "Worker", "close_idle", "hired"]


class Hiring(NamedTuple):
    """Which workers are wanted.

    Attributes
    ----------
    workers
        How many; 0: one for each core, of the machine or of the whole Ray cluster as it grows and shrinks.
    ray
        Address of a Ray cluster, or ``"auto"`` for the one that runs here; None: processes of this machine.
    memory
        Bytes of address space that a process may have; None: as many as there are.
    """

    workers: int = 0
    ray: str | None = None
    memory: int | None = None


class Worker:
    """One process that does units, one at a time.

    Attributes
    ----------
    place
        Its number in the pool; who comes in its stead has the same.
    host, pid
        Where it runs.
    ready
        Whether it can be given a unit; else it is still on its way.
    heard
        When it last gave a sign of life (`time.monotonic`).
    seasoned
        Whether it did a unit, and so has loaded what it needs.
    let_go
        Whether it is still at a unit that nobody waits for any more.
    """

    def __init__(self, place: int, host: str = "", pid: int = 0) -> None:
        self.place, self.host, self.pid = place, host, pid
        self.ready, self.heard, self.seasoned, self.let_go = False, time.monotonic(), False, False


class Event(NamedTuple):
    """What a worker had to say.

    Attributes
    ----------
    worker
        Who.
    reply
        What `vedette.runtimes.cluster.answer.answered` returned; empty: it is ready; None: it is gone.
    cause, traceback
        Why it is gone: one line, and whatever else is known. No cause: it had nothing to do.
    """

    worker: Worker
    reply: bytes | None
    cause: str = ""
    traceback: str = ""


class Pool(ABC):
    """Workers. Who uses a pool decides what they do, whom to give up and when there are too few.

    Attributes
    ----------
    patience
        Seconds in which workers that are lacking may still come by themselves.
    shelf
        Keeps what many units need, for workers to fetch once.
    """

    patience: ClassVar[float] = 0.0
    shelf: Shelf

    @property
    @abstractmethod
    def workers(self) -> list[Worker]:
        """Those that there are, in the order of their places: on their way, ready or at work."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many there should be."""

    @property
    @abstractmethod
    def usable(self) -> int:
        """How many there are, or will be as soon as there is work for them."""

    @abstractmethod
    def fill(self, wanted: int) -> None:
        """See to it that so many are ready or on their way, as far as places allow.

        Raises
        ------
        StorageError
            This machine cannot start another process.
        """

    @abstractmethod
    def give(self, worker: Worker, unit: Packed) -> None:
        """Let a worker that has nothing to do begin with a unit; its reply, or its end, will be an event."""

    @abstractmethod
    def events(self, timeout: float) -> list[Event]:
        """Return what happened; waits so many seconds for something to happen."""

    @abstractmethod
    def dismiss(self, worker: Worker, for_good: bool = False) -> None:
        """End a worker, whatever it does; no event will come of it. `for_good`: nobody takes its place."""

    @abstractmethod
    def close(self) -> None:
        """End all workers and take away what they were given."""


_idle: dict[Hiring, Pool] = {}


@contextmanager
def hired(hiring: Hiring) -> Iterator[Pool]:
    """Have a pool to oneself: one that stands idle, or a new one, which is kept for whoever comes next."""
    pool = _idle.pop(hiring, None) or _opened(hiring)
    whole = False
    try:
        yield pool
        whole = True
    finally:
        # Whoever comes next shall not begin with what was broken off.
        if whole and hiring not in _idle:
            _idle[hiring] = pool
        else:
            pool.close()


def _opened(hiring: Hiring) -> Pool:
    # Others that stand idle would take up the cores and the memory.
    close_idle()
    pool: Pool
    if hiring.ray is None:
        from vedette.runtimes.cluster.processes import Processes

        pool = Processes(hiring.workers, hiring.memory)
    else:
        from vedette.runtimes.cluster.rays import Rays

        pool = Rays(hiring.workers, hiring.ray)
    # Before Ray ends, which asked for the same when it was imported: the last to ask is the first.
    atexit.register(close_idle)
    return pool


def close_idle() -> None:
    """End the workers that nobody uses right now; it is done for a process that ends."""
    while _idle:
        _idle.popitem()[1].close()
