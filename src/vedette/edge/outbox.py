"""The outbox: events that sinks have not accepted yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from vedette.edge.database import Database
from vedette.edge.events import Event, EventKind

__all__ = ["Outbox", "Waiting"]


class Waiting(NamedTuple):
    """An event that a sink has not accepted yet, and its place in the outbox."""

    place: int
    event: Event


class Outbox:
    """What is still to be told, by sink and in order; it outlives the process.

    Parameters
    ----------
    database
        Where it is kept.
    sinks
        By name of each sink, the kinds of events that it is told.
    """

    def __init__(self, database: Database, sinks: Mapping[str, Collection[EventKind]]) -> None:
        self.database, self.sinks = database, dict(sinks)

    def put(self, db: sqlite3.Connection, place: int, event: Event) -> None:
        """Put a new event out for every sink that wants it, within a transaction; `place` is its place among the events."""
        for sink, kinds in self.sinks.items():
            if event.kind in ("updated", "closed"):
                # Of what still waits, only the newest is worth telling.
                db.execute("delete from outbox where sink = ? and incident = ? and kind = 'updated'", (sink, event.incident))
            if event.kind in kinds:
                row = (sink, place, event.incident, event.kind)
                db.execute("insert into outbox (sink, event, incident, kind) values (?, ?, ?, ?)", row)

    def waiting(self, sink: str, most: int = 100) -> list[Waiting]:
        """Return what a sink is to be told next, at most so many, in order."""
        with self.database.reading() as db:
            found = db.execute(
                "select outbox.place, said from outbox join events on events.place = event where sink = ? order by outbox.place limit ?",
                (sink, most),
            )
            return [Waiting(place, Event.model_validate_json(said)) for place, said in found.fetchall()]

    def accepted(self, places: Sequence[int]) -> None:
        """Take away what was accepted, or never will be."""
        with self.database.writing() as db:
            db.executemany("delete from outbox where place = ?", [(place,) for place in places])

    def counts(self) -> dict[str, int]:
        """Return how many events wait, by sink."""
        with self.database.reading() as db:
            found = dict(db.execute("select sink, count(*) from outbox group by sink").fetchall())
        return {sink: found.get(sink, 0) for sink in self.sinks}

    def forget_others(self) -> int:
        """Take away what waits for sinks that there are no more; returns how many events."""
        with self.database.writing() as db:
            marks = ", ".join("?" * len(self.sinks))
            return db.execute(f"delete from outbox where sink not in ({marks})", tuple(self.sinks)).rowcount
