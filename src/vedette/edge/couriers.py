"""Couriers: each takes what waits in the outbox to one sink, until it is accepted; the loop that scores never waits for them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vedette.edge.events import EventKind
from vedette.edge.outbox import Waiting
from vedette.edge.sinks.base import Outlet, Unaccepted
from vedette.edge.store import Store

__all__ = ["Couriers", "Delivery", "Told"]

log = logging.getLogger(__name__)

MOST = 100
"""Events that are handed over together."""

PAUSE, LONGEST, ASKED = 0.5, 60.0, 3600.0
"""Seconds before the second attempt, at most between two, and at most if whoever refuses asks for more."""


class Told(Protocol):
    """Whoever is told of events: a sink, or what else has an outlet."""

    @property
    def kinds(self) -> Collection[EventKind]:
        """What is told there."""

    @property
    def rate(self) -> float:
        """Events a second at most of what has piled up."""

    def open(self) -> Outlet:
        """Open it."""


@dataclass
class Delivery:
    """How it stands with one sink.

    Attributes
    ----------
    sent, refused, failures
        Events that were accepted, events that never will be, and attempts that failed.
    failing
        Why the last attempt failed; "" where it did not.
    """

    sent: int = 0
    refused: int = 0
    failures: int = 0
    failing: str = ""


class _Courier(threading.Thread):
    """Serves one sink."""

    def __init__(self, name: str, rate: float, outlet: Outlet, store: Store) -> None:
        super().__init__(name=f"courier {name}", daemon=True)
        self.sink, self.rate, self.outlet, self.store = name, rate, outlet, store
        self.delivery = Delivery()
        self.stopped = threading.Event()
        self._pause, self._paced = 0.0, False
        self._reminded = time.monotonic()

    def run(self) -> None:
        try:
            while not self.stopped.is_set():
                self._step()
        finally:
            self.outlet.close()

    def _step(self) -> None:
        """Tell the next events, or wait until there are some."""
        turn = self.store.database.turn
        try:
            with turn:
                waiting = self.store.outbox.waiting(self.sink, self._chunk())
                if not waiting:
                    self._paced = False
                    left = self._reminded + self.outlet.every - time.monotonic()
                    if left > 0 and not self.stopped.is_set():
                        # `stop` notifies too; an hour is as good as for ever, and no timeout is too long for it.
                        turn.wait(min(left, 3600.0))
                        return
            if waiting:
                self._tell(waiting)
            if time.monotonic() - self._reminded >= self.outlet.every:
                self.outlet.remind(self.store.records.incidents(open_only=True, most=10_000))
                self._reminded = time.monotonic()
        except Unaccepted as error:
            self._failed(str(error), error.after)
        except Exception as error:
            # Whatever one sink comes upon, the others and the scoring go on.
            self._failed(f"{type(error).__name__}: {error}", 0.0)
        else:
            if self._pause:
                log.info("sink accepts again", extra={"sink": self.sink})
            self._pause, self.delivery.failing = 0.0, ""
            if waiting and self._paced:
                self.stopped.wait(len(waiting) / self.rate)

    def _chunk(self) -> int:
        """Return how many events are taken at once: what has piled up goes out evenly, not in bursts."""
        return max(1, min(MOST, int(self.rate / 10))) if self._paced else MOST

    def _tell(self, waiting: Sequence[Waiting]) -> None:
        try:
            self.outlet.send([one.event for one in waiting])
        except Unaccepted as error:
            if not error.lasting:
                raise
            if len(waiting) > 1:
                # One of them was meant; the others are told.
                for one in waiting:
                    self._tell([one])
                return
            self.delivery.refused += 1
            log.error("event is refused for good", extra={"sink": self.sink, "event": waiting[0].event.id, "reason": str(error)})
        else:
            self.delivery.sent += len(waiting)
        self.store.outbox.accepted([one.place for one in waiting])

    def _failed(self, why: str, after: float) -> None:
        """Wait a while, longer from time to time; nobody who was away shall be met by all couriers at once."""
        if not self._pause:
            log.warning("sink does not accept; it is tried again", extra={"sink": self.sink, "reason": why})
        self._paced, self.delivery.failing = True, why
        self.delivery.failures += 1
        self._pause = min(max(2 * self._pause, PAUSE), LONGEST)
        self.stopped.wait(max(self._pause * random.uniform(0.75, 1.25), min(after, ASKED)))


class Couriers:
    """One thread a sink.

    Parameters
    ----------
    store
        Its outbox holds what is to be told.
    sinks
        By the names that the outbox knows.

    Raises
    ------
    VedetteError
        A sink that cannot work (`Sink.open`).
    """

    def __init__(self, store: Store, sinks: Mapping[str, Told]) -> None:
        self.store = store
        opened: dict[str, Outlet] = {}
        try:
            for name, sink in sinks.items():
                opened[name] = sink.open()
        except BaseException:
            for outlet in opened.values():
                outlet.close()
            raise
        self._couriers = [_Courier(name, sinks[name].rate, outlet, store) for name, outlet in opened.items()]
        for courier in self._couriers:
            courier.start()

    @property
    def deliveries(self) -> dict[str, Delivery]:
        """How it stands with each sink."""
        return {courier.sink: courier.delivery for courier in self._couriers}

    def drained(self, seconds: float) -> bool:
        """Wait at most so long until all was told; returns whether it was."""
        end = time.monotonic() + seconds
        while any(self.store.outbox.counts().values()):
            if time.monotonic() >= end:
                return False
            time.sleep(0.01)
        return True

    def close(self, seconds: float = 10.0) -> None:
        """Stop; what was not told is told after the next start."""
        for courier in self._couriers:
            courier.stopped.set()
        with self.store.database.turn:
            self.store.database.turn.notify_all()
        end = time.monotonic() + seconds
        for courier in self._couriers:
            courier.join(max(0.0, end - time.monotonic()))
