"""Units of work given to workers, and given again to others whatever becomes of these; results in order or as they come, each once."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from vedette.errors import MissingExtra, RecipeError, TooFewWorkers, VedetteError
from vedette.runtimes.cluster.answer import Answer, opened
from vedette.runtimes.cluster.incident import Incident
from vedette.runtimes.cluster.pool import Event, Hiring, Pool, Worker, hired
from vedette.runtimes.cluster.shelf import Packed
from vedette.runtimes.cluster.worker import BEAT

__all__ = ["Dispatch", "OnIncident", "Unit"]

OnIncident: TypeAlias = Callable[[Incident], None]
"""Called when a worker did not bring a unit to its end."""

SILENCE = 60.0
"""Seconds without a sign of life after which a worker counts as hung; whoever is slow still gives one every second."""

LOADING = 30.0
"""Seconds that a worker's first unit may take beyond the deadline: it loads libraries."""

TRIES = 3
"""How often a unit is tried, and how many workers in a row may fail at one place."""

WAIT = 1.0
"""Seconds between two looks at the clock."""


@dataclass(eq=False)
class Unit:
    """What one worker does at a time.

    Attributes
    ----------
    name
        For people: ``"node 'n7'"``.
    step
        What the run is at, for people: ``"train, round 3"``.
    content
        A function and its arguments, packed.
    fault
        Says what is wrong with a result, or None.
    begun
        When it was given to a worker (`time.monotonic`).
    failures
        How often it came to nothing.
    done, result, error
        When it came to an end (`time.monotonic`; 0: it has not), and what there is to hand over.
    """

    name: str
    step: str
    content: Packed
    fault: Callable[[Any], str | None]
    begun: float = 0.0
    failures: int = 0
    done: float = 0.0
    result: Any = None
    error: Exception | None = None


class Dispatch:
    """Has units done by workers.

    A unit that comes to nothing is given to another worker: because its worker was killed, gave no sign of life, took too long, ran out of
    memory, raised an error or returned nonsense. An error of the work itself (`VedetteError`) is none of the worker's: it is raised in
    turn, as if there were no workers.

    Parameters
    ----------
    hiring
        Which workers.
    least
        Fewer usable ones end the run.
    deadline
        Seconds that a unit may take (the first one of a worker, 30 more), and that a worker may be silent; None: 60 of silence, and as
        long as it takes for whoever is heard.
    on_incident
        Told of everything that goes wrong.

    Attributes
    ----------
    incidents
        All that went wrong so far.
    places
        By name of a unit, where it was done last: its rows lie ready there.

    Raises
    ------
    RecipeError
        Numbers that make no sense.
    """

    def __init__(self, hiring: Hiring, least: int = 1, deadline: float | None = None, on_incident: OnIncident = lambda _: None) -> None:
        if hiring.workers < 0:
            raise RecipeError(f"workers must be 0 (one for each core) or more (got {hiring.workers})")
        if least < 1 or (hiring.workers and least > hiring.workers):
            raise RecipeError(f"at least one and at most all {hiring.workers or ''} workers can be needed (min-workers = {least})")
        if deadline is not None and deadline < 3 * BEAT:
            raise RecipeError(
                f"a deadline must be at least {3 * BEAT:g} s, because workers give a sign of life every {BEAT:g} s (got {deadline:g})"
            )
        self.hiring, self.least, self.deadline, self.on_incident = hiring, least, deadline, on_incident
        self.incidents: list[Incident] = []
        self.places: dict[str, int] = {}

    def run(
        self, share: Callable[[Pool], tuple[Iterator[Unit | None], int]], step: str, as_they_come: bool = False
    ) -> Generator[Any, None, None]:
        """Have units done; close it if it is not run to its end, for workers to stop.

        Parameters
        ----------
        share
            Given the pool, makes the units, which are drawn as they are needed, and says how many are drawn ahead of the first whose
            result is not there yet (two for each worker at least).
        step
            What the run is at, for people.
        as_they_come
            Whether a result is handed over as soon as it is there. The units may then depend on results: None says that there is none
            before another result was taken. When they end, what is under way is let go.

        Yields
        ------
        Any
            The result of each unit, in their order, or in that in which they are done.

        Raises
        ------
        TooFewWorkers
            Fewer usable ones than are needed.
        VedetteError
            Of the work itself; or of a unit that came to nothing again and again.
        """
        with hired(self.hiring) as pool:
            pool.shelf.tidy()
            yield from _Shift(self, pool, step, as_they_come).results(*share(pool))

    def note(self, worker: Worker, step: str, unit: Unit | None, cause: str, traceback: str) -> None:
        """Keep what went wrong."""
        what = (step, "") if unit is None else (unit.step, unit.name)
        incident = Incident(worker.host, worker.pid, *what, cause, traceback)
        self.incidents.append(incident)
        self.on_incident(incident)


class _Shift:
    """The workers of a pool while they are at one step."""

    def __init__(self, dispatch: Dispatch, pool: Pool, step: str, as_they_come: bool) -> None:
        self.dispatch, self.pool, self.step, self.as_they_come = dispatch, pool, step, as_they_come
        self.waiting = deque[Unit]()
        self.busy: dict[Worker, Unit] = {}
        self.failures = Counter[int]()
        self.enough = time.monotonic()

    def results(self, units: Iterator[Unit | None], ahead: int) -> Iterator[Any]:
        more, refused = True, None
        while True:
            while more and len(self.waiting) < max(ahead, 2 * self.pool.usable):
                try:
                    unit = next(units)
                    if unit is None:
                        break
                    self.waiting.append(unit)
                except StopIteration:
                    more = False
                except Exception as error:
                    # The units before this one have their say first, as if nobody had looked ahead.
                    more, refused = False, error
            if not self.waiting or (self.as_they_come and not more):
                break
            unit = self._next_done()
            if unit is None or self.as_they_come:
                self._hand_out()
            if unit is not None:
                self.waiting.remove(unit)
                if unit.error is not None:
                    raise unit.error
                yield unit.result
                continue
            for event in self.pool.events(WAIT):
                self._heard(event)
            self._look_at_the_clock()
        for worker in self.busy:
            worker.let_go = True
        if refused is not None:
            raise refused

    def _next_done(self) -> Unit | None:
        done = [unit for unit in (self.waiting if self.as_they_come else (self.waiting[0],)) if unit.done]
        return min(done, key=lambda unit: unit.done, default=None)

    def _hand_out(self) -> None:
        idle = [unit for unit in self.waiting if not unit.done and unit not in self.busy.values()]
        let_go = sum(worker.let_go for worker in self.pool.workers)
        self.pool.fill(max(self.dispatch.least, len(idle) + len(self.busy) + let_go))
        self._demand_enough()
        last = [unit for unit in (*self.busy.values(), *idle) if unit.failures == TRIES - 1]
        if last:
            # If memory is what it lacked, it has all of it in its last try.
            idle = [] if self.busy else last[:1]
        free = [worker for worker in self.pool.workers if worker.ready and not worker.let_go and worker not in self.busy]
        if self.as_they_come:
            # Who waits longest goes first, for there will always be others.
            idle = idle[: len(free)]
        for worker in free[: len(idle)]:
            # Whoever had a unit of this name before has its rows at hand.
            unit = next((unit for unit in idle if self.dispatch.places.get(unit.name) == worker.place), idle[0])
            idle.remove(unit)
            unit.begun = worker.heard = time.monotonic()
            self.busy[worker] = unit
            self.pool.give(worker, unit.content)

    def _demand_enough(self) -> None:
        now, usable = time.monotonic(), self.pool.usable
        if usable >= self.dispatch.least:
            self.enough = now
        elif now - self.enough >= self.pool.patience:
            last = f"; the last to fail was {self.dispatch.incidents[-1]}" if self.dispatch.incidents else ""
            raise TooFewWorkers(f"{usable} usable workers are left where {self.dispatch.least} are needed{last}")

    def _heard(self, event: Event) -> None:
        worker = event.worker
        if event.reply is None and event.cause:
            self._failed(worker, event.cause, event.traceback)
        elif event.reply is None:
            # It had been idle for long, and left just as it was called.
            self.busy.pop(worker, None)
            self.pool.dismiss(worker)
        elif worker.let_go:
            worker.let_go = False
        elif event.reply:
            self._answered(worker, opened(event.reply))

    def _answered(self, worker: Worker, answer: Answer | None) -> None:
        unit = self.busy[worker]
        if answer is None:
            self._failed(worker, "its answer has a wrong checksum")
        elif isinstance(answer.error, VedetteError) and not isinstance(answer.error, MissingExtra):
            del self.busy[worker]
            unit.done, unit.error = time.monotonic(), answer.error
        elif answer.error is not None:
            said = (str(answer.error).splitlines() or [""])[0]
            self._failed(worker, f"{type(answer.error).__name__}: {said}", answer.traceback, answer.error)
        elif fault := _fault_of(unit, answer.result):
            self._failed(worker, f"it returned nonsense: {fault}")
        else:
            del self.busy[worker]
            unit.done, unit.result, worker.seasoned = time.monotonic(), answer.result, True
            self.failures[worker.place] = 0
            self.dispatch.places[unit.name] = worker.place

    def _failed(self, worker: Worker, cause: str, traceback: str = "", error: Exception | None = None) -> None:
        unit = self.busy.pop(worker, None)
        self.dispatch.note(worker, self.step, unit, cause, traceback)
        self.failures[worker.place] += 1
        self.pool.dismiss(worker, for_good=self.failures[worker.place] >= TRIES)
        if unit is None:
            return
        unit.failures += 1
        if unit.failures == TRIES:
            unit.done, unit.error = time.monotonic(), _verdict(unit, cause, traceback, error)

    def _look_at_the_clock(self) -> None:
        now, deadline = time.monotonic(), self.dispatch.deadline
        for worker in self.pool.workers:
            unit = self.busy.get(worker)
            if worker.ready and unit is None and not worker.let_go:
                continue
            silence = SILENCE if unit is None or deadline is None else min(SILENCE, deadline)
            if now - worker.heard > silence:
                self._failed(worker, f"it gave no sign of life for {silence:g} s")
            elif unit is not None and deadline is not None and now - unit.begun > deadline + (0 if worker.seasoned else LOADING):
                self._failed(worker, f"it was not done after {now - unit.begun:.0f} s")


def _fault_of(unit: Unit, result: Any) -> str | None:
    try:
        return unit.fault(result)
    except Exception as error:
        return f"something else than was asked for ({type(error).__name__}: {error})"


class _RemoteError(Exception):
    """Holds the traceback of a worker, as the cause of the error it raised."""


def _verdict(unit: Unit, cause: str, traceback: str, error: Exception | None) -> Exception:
    if error is None or isinstance(error, MemoryError):
        return VedetteError(
            f"{unit.name}: {TRIES} workers in turn did not bring it to its end, the last with nothing beside it; {cause.rstrip('.')}; "
            "take it out, or look into why with one process (workers = 1)"
        )
    error.__cause__ = _RemoteError(f"in a worker:\n{traceback}")
    return error
