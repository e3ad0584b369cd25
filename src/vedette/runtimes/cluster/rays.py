"""Workers that Ray places on the machines of a cluster; machines may join and leave while they are at work."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vedette.errors import AddressError, MissingExtra
from vedette.message import Array
from vedette.runtimes.cluster.answer import answered
from vedette.runtimes.cluster.pool import Event, Pool, Worker
from vedette.runtimes.cluster.shelf import Packed, Shelf
from vedette.runtimes.cluster.worker import BEAT

__all__ = ["Rays", "needs_ray"]

FETCHED = 1024
"""Arrays that a worker keeps hold of."""


def needs_ray() -> Any:
    """Import Ray.

    Raises
    ------
    MissingExtra
        It is not installed.
    """
    # It calls home unless it is told not to, and warns of what will change for those who have accelerators.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtra("a cluster of several machines needs Ray: pip install 'vedette[cluster]'") from None
    return ray


class _Store(Shelf):
    """Arrays in Ray's object store: each machine fetches one once, and its workers read it there."""

    reaches_files = False

    def __init__(self, ray: Any) -> None:
        super().__init__()
        self.ray, self.references = ray, dict[str, Any]()

    def put(self, key: str, array: Array) -> bool:
        self.references[key] = self.ray.put(np.asarray(array))
        self.used += array.nbytes
        return True

    def opens(self, key: str) -> tuple[Callable[[str], Array], tuple[str]]:
        return _fetched, (key,)

    def clear(self) -> None:
        super().clear()
        self.references.clear()


class _Hand:
    """The actor: a process that Ray began, with the package alone."""

    def about(self) -> tuple[str, int, str]:
        import ray

        return socket.gethostname(), os.getpid(), ray.get_runtime_context().get_node_id()

    def beat(self) -> None:
        """Give a sign of life, beside the unit that is done."""

    def do(self, unit: bytes, references: Mapping[str, Any]) -> bytes:
        import ray

        for key, reference in references.items():
            if key in _arrays:
                _arrays.move_to_end(key)
            else:
                _arrays[key] = ray.get(reference)
        while len(_arrays) > max(FETCHED, len(references)):
            _arrays.popitem(last=False)
        return answered(unit)


_arrays: OrderedDict[str, Array] = OrderedDict()


def _fetched(key: str) -> Array:
    return _arrays[key]


def _killed(pid: int) -> None:
    """End a worker of this machine that does not listen any more."""
    with contextlib.suppress(OSError):
        if "ray::" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)


class _Actor(Worker):
    """A worker that Ray has placed, or will when there is room."""

    def __init__(self, place: int, handle: Any) -> None:
        super().__init__(place)
        self.handle = handle
        self.pending: Any = handle.about.remote()
        self.beat: Any = None
        self.machine = ""
        self.gone = False


class Rays(Pool):
    """Workers that Ray places wherever a core is free.

    Parameters
    ----------
    count
        How many; 0: one for each core of the cluster as it is at the moment.
    address
        ``"auto"``: the cluster that this machine belongs to; else ``HOST:PORT`` of its head.

    Raises
    ------
    MissingExtra
        Ray is not installed.
    AddressError
        There is no cluster.
    """

    patience: ClassVar[float] = 60.0
    shelf: _Store

    def __init__(self, count: int, address: str) -> None:
        self.ray = ray = needs_ray()
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                said = str(error).splitlines()[0]
                raise AddressError(f"no Ray cluster at '{address}' ({said}); 'ray start --head' begins one") from None
        self.count, self.shelf = count, _Store(ray)
        self._make = ray.remote(num_cpus=1, max_concurrency=2, max_restarts=0)(_Hand)
        self._end = ray.remote(num_cpus=0)(_killed)
        self._given_up: set[int] = set()
        self._actors: dict[int, _Actor] = {}
        self._cores = 0, 0.0

    @property
    def size(self) -> int:
        if self.count:
            return self.count
        cores, seen = self._cores
        if time.monotonic() - seen >= BEAT:
            cores = int(self.ray.cluster_resources().get("CPU", 0))
            self._cores = cores, time.monotonic()
        return max(1, cores)

    @property
    def workers(self) -> list[Worker]:
        # One that still waits for a machine with room is not silent.
        return [actor for _, actor in sorted(self._actors.items()) if actor.ready]

    @property
    def usable(self) -> int:
        return len(self.workers)

    def fill(self, wanted: int) -> None:
        for place in range(min(wanted, self.size)):
            if place not in self._actors and place not in self._given_up:
                self._actors[place] = _Actor(place, self._make.remote())

    def give(self, worker: Worker, unit: Packed) -> None:
        assert isinstance(worker, _Actor)
        worker.pending = worker.handle.do.remote(unit.content, {key: self.shelf.references[key] for key in unit.keys})
        worker.beat = worker.handle.beat.remote()

    def events(self, timeout: float) -> list[Event]:
        now = time.monotonic()
        for actor in self._actors.values():
            if actor.ready and actor.pending is not None and actor.beat is None and now - actor.heard >= BEAT:
                # Silence begins when nobody answers.
                actor.beat, actor.heard = actor.handle.beat.remote(), now
        due = {actor.pending: actor for actor in self._actors.values() if actor.pending is not None}
        beats = {actor.beat: actor for actor in self._actors.values() if actor.beat is not None}
        if not due and not beats:
            return []
        known, found = [*due, *beats], list[Event]()
        ready, _ = self.ray.wait(known, num_returns=1, timeout=timeout)
        if ready:
            ready, _ = self.ray.wait(known, num_returns=len(known), timeout=0)
        for reference in ready:
            actor = due.get(reference) or beats[reference]
            actor.heard = time.monotonic()
            if reference in beats:
                actor.beat = None
            else:
                actor.pending = None
                found.append(self._said(actor, reference))
        return found

    def _said(self, actor: _Actor, reference: Any) -> Event:
        try:
            said = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            actor.gone = True
            return Event(actor, None, f"Ray lost it: {_gist(error)}", str(error))
        if actor.ready:
            return Event(actor, said)
        actor.host, actor.pid, actor.machine = said
        actor.ready = True
        return Event(actor, b"")

    def dismiss(self, worker: Worker, for_good: bool = False) -> None:
        assert isinstance(worker, _Actor)
        self._actors.pop(worker.place, None)
        if for_good:
            self._given_up.add(worker.place)
        self.ray.kill(worker.handle)
        if worker.machine and not worker.gone:
            # One that is stopped does not hear of it, and would keep its core for good.
            there = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(worker.machine, soft=True)
            self._end.options(scheduling_strategy=there).remote(worker.pid)

    def close(self) -> None:
        for actor in list(self._actors.values()) if self.ray.is_initialized() else ():
            self.dismiss(actor)
        self.shelf.clear()
        if self._ours:
            self.ray.shutdown()


def _gist(error: Exception) -> str:
    """Return the line of a long report that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line.split(". ")[0] for line in lines if "exit detail" in line or "cause" in line.lower()), lines[0] if lines else "?")
