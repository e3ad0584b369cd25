"""The store: what was read, what came of it, and what is still to be told; bounded, and whole after a kill at any moment."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vedette.edge.database import Database
from vedette.edge.events import Event, EventKind
from vedette.edge.outbox import Outbox
from vedette.edge.records import Records
from vedette.errors import StorageError
from vedette.files import read_memory, write_memory
from vedette.message import Memory

__all__ = ["Batch", "Recovered", "Store"]

log = logging.getLogger(__name__)

AGAIN = 10.0
"""Seconds after which a snapshot that could not be stored is tried again."""

RESPONSES = 10_000
"""Responses that are remembered; the events of older ones are long told."""


class Batch(NamedTuple):
    """Readings that were stored together.

    Attributes
    ----------
    place
        Their number.
    position
        How far the source was read with them.
    notes
        What else came in with them, as it was stored.
    readings
        See `vedette.edge.journal`.
    """

    place: int
    position: str
    notes: str
    readings: bytes


class Recovered(NamedTuple):
    """Where to go on.

    Attributes
    ----------
    memory
        The last snapshot; None where there is none.
    names
        Of all devices, in the order of their places.
    batches
        What was read since the snapshot, in order.
    position
        Where the source goes on after them.
    """

    memory: Memory | None
    names: list[str]
    batches: Iterator[Batch]
    position: str


class Store:
    """The state of a sentry on disk.

    One process opens it; others may look into its `Records`. All methods may be called by any thread.

    Parameters
    ----------
    folder
        Where; made if it is not there.
    limit
        Bytes that readings and events may take; the oldest go. Snapshots are beside them, each as large as the state that it holds.
    sinks
        By name of each sink, the kinds of events that it is told.

    Attributes
    ----------
    outbox
        What is still to be told.
    records
        What was told, and what was said of it.
    dropped
        Events that went before a sink accepted them, because all the room was theirs.

    Raises
    ------
    StorageError, CheckpointError
        See `Database`.
    """

    def __init__(self, folder: Path, limit: int = 256 << 20, sinks: Mapping[str, Collection[EventKind]] | None = None) -> None:
        self.folder, self.limit = folder, limit
        self.database = Database(folder)
        self.outbox, self.records = Outbox(self.database, sinks or {}), Records(self.database)
        self.dropped = int(self.database.fact("dropped", "0"))
        self._covered = int(self.database.fact("covered", "0"))
        self._taking: threading.Thread | None = None
        self._why_not, self._again = "none was taken", 0.0
        self._tidy()
        size = "coalesce(sum(length(readings)), 0)"
        self._journal_bytes: int
        with self.database.reading() as db:
            self._names: int = db.execute("select count(*) from devices").fetchone()[0]
            last, self._journal_bytes = db.execute(f"select coalesce(max(place), 0), {size} from journal").fetchone()
            self._place: int = max(last, self._covered)
            self._open_bytes: int = db.execute(f"select {size} from journal where place > ?", (self._covered,)).fetchone()[0]
            self._event_bytes: int = db.execute("select coalesce(sum(length(said) + length(sample)), 0) from events").fetchone()[0]

    def append(
        self,
        readings: bytes,
        position: str,
        events: Sequence[Event] = (),
        *,
        samples: Mapping[str, bytes] | None = None,
        names: Sequence[str] = (),
        notes: str = "",
        applied: Sequence[int] = (),
    ) -> int:
        """Store a batch with all that came of it, in one transaction.

        Parameters
        ----------
        readings, position, notes
            See `Batch`.
        events
            What is to be told; those stored already are left alone, and told nobody again.
        samples
            The values that were scored, by their digest (`Event.input`).
        names
            Of all devices so far, in the order of their places.
        applied
            Places of acknowledgements that this batch was the first to heed.

        Returns
        -------
        place
            The batch's number.

        Raises
        ------
        StorageError
            It could not be stored, and nothing of it was.
        """
        if self._open_bytes > self.limit // 2:
            raise StorageError(f"{self.database.path} holds all the readings it may without a new snapshot ({self._why_not})")
        with self.database.turn:
            place = self._place + 1
            with self.database.writing() as db:
                db.execute("insert into journal values (?, ?, ?, ?)", (place, position, notes, readings))
                if len(names) > self._names:
                    db.executemany("insert into devices values (?, ?)", enumerate(names[self._names :], self._names))
                if applied:
                    db.executemany("update acknowledgements set applied = ? where place = ?", [(place, one) for one in applied])
                grown = sum(self._insert(db, event, (samples or {}).get(event.input, b"")) for event in events)
                journal = self._pruned_journal(db, self._journal_bytes + len(readings))
                kept, dropped = self._pruned_events(db, self._event_bytes + grown)
            self._place, self._names = place, max(self._names, len(names))
            self._journal_bytes, self._event_bytes, self._open_bytes = journal, kept, self._open_bytes + len(readings)
            self.dropped += dropped
            self.database.added(len(readings) + grown)
            if grown:
                self.database.turn.notify_all()
        if dropped:
            log.warning("events are dropped before they were accepted, for the store is full", extra={"events": dropped})
        return place

    def _insert(self, db: sqlite3.Connection, event: Event, sample: bytes) -> int:
        """Store an event if it is new, for whoever is to be told of it; returns its size."""
        said = event.model_dump_json()
        row = (event.id, event.kind, event.incident, said, sample)
        found = db.execute("insert or ignore into events (id, kind, incident, said, sample) values (?, ?, ?, ?, ?)", row)
        if not found.rowcount or found.lastrowid is None:
            return 0
        place = found.lastrowid
        if event.kind != "alert":
            db.execute(
                "insert into incidents values (?, ?, ?, ?) on conflict do update set open = excluded.open, said = excluded.said",
                (event.incident, place, event.kind != "closed", said),
            )
        self.outbox.put(db, place, event)
        return len(said) + len(sample)

    def _pruned_journal(self, db: sqlite3.Connection, size: int) -> int:
        """Let the oldest readings go that a snapshot covers, until the others fit; returns the bytes that are left."""
        while size > self.limit // 2:
            oldest = "select place, length(readings) from journal where place <= ? order by place limit 16"
            gone = db.execute(oldest, (self._covered,)).fetchall()
            if not gone:
                break
            db.execute("delete from journal where place <= ?", (gone[-1][0],))
            size -= sum(length for _, length in gone)
        return size

    def _pruned_events(self, db: sqlite3.Connection, size: int) -> tuple[int, int]:
        """Let the oldest events go, those of open incidents and those that wait to be told last; returns the bytes that are left."""
        if size <= self.limit // 4:
            return size, 0
        dropped = 0
        oldest = "select place, length(said) + length(sample) from events where place not in (select event from outbox)"
        settled = "(kind in ('alert', 'updated') or incident not in (select id from incidents where open))"
        # More than is needed, so that it is not done again at the next event.
        while size > self.limit // 4 * 7 // 8:
            gone = db.execute(f"{oldest} and {settled} order by place limit 256").fetchall()
            if not gone:
                waiting = "select distinct event from outbox order by event limit 256"
                dropped += db.execute(f"delete from outbox where event in ({waiting})").rowcount
                gone = db.execute(f"{oldest} order by place limit 256").fetchall()
            db.executemany("delete from events where place = ?", [(place,) for place, _ in gone])
            size -= sum(length for _, length in gone)
        db.execute("delete from incidents where not open and id not in (select incident from events)")
        db.execute("delete from responses where place <= (select max(place) from responses) - ?", (RESPONSES,))
        if dropped:
            db.execute("insert or replace into facts values ('dropped', ?)", (str(self.dropped + dropped),))
        return size, dropped

    @property
    def size(self) -> int:
        """Bytes of readings and events that are stored."""
        return self._journal_bytes + self._event_bytes

    @property
    def due(self) -> bool:
        """Whether so much was read since the last snapshot that a new one should be taken."""
        return self._open_bytes > self.limit // 8 and not self.taking and time.monotonic() >= self._again

    @property
    def taking(self) -> bool:
        """Whether a snapshot is being written."""
        return self._taking is not None and self._taking.is_alive()

    def snapshot(self, memory: Memory) -> None:
        """Write the state after the last batch, in a thread of its own; until it is whole, the one before it holds.

        Parameters
        ----------
        memory
            Arrays that nobody changes any more, numbers and text. Where one is being written still, nothing is done.
        """
        if not self.taking:
            self._taking = threading.Thread(target=self._take, args=(memory, self._place, self._open_bytes), name="snapshot")
            self._taking.start()

    def _take(self, memory: Memory, place: int, size: int) -> None:
        path = self.folder / f"snapshot-{place}.safetensors"
        try:
            write_memory(path, memory, mode=0o600)
            with self.database.writing() as db:
                db.execute("insert or replace into facts values ('covered', ?)", (str(place),))
            with self.database.turn:
                self._covered, self._open_bytes = place, self._open_bytes - size
            self._tidy()
        except (StorageError, OSError) as error:
            self._why_not, self._again = str(error), time.monotonic() + AGAIN
            log.warning("no snapshot could be stored", extra={"reason": str(error)})

    def _tidy(self) -> None:
        """Delete snapshots that no longer hold, and what is left of those that never were whole."""
        for pattern in ("snapshot-*.safetensors", ".snapshot-*.part"):
            for path in self.folder.glob(pattern):
                if path.name != f"snapshot-{self._covered}.safetensors":
                    path.unlink()

    def recover(self) -> Recovered:
        """Return the last snapshot and what was read since.

        Raises
        ------
        CheckpointError
            The snapshot is damaged.
        """
        memory = read_memory(self.folder / f"snapshot-{self._covered}.safetensors")[0] if self._covered else None
        with self.database.reading() as db:
            names = [name for (name,) in db.execute("select name from devices order by place")]
            last = db.execute("select position from journal order by place desc limit 1").fetchone()
        return Recovered(memory, names, self.batches(self._covered), "" if last is None else last[0])

    def batches(self, since: int = 0) -> Iterator[Batch]:
        """Yield what is left of all that was read after a batch, in order."""
        while True:
            with self.database.reading() as db:
                found = db.execute("select * from journal where place > ? order by place limit 1", (since,)).fetchone()
            if found is None:
                return
            yield Batch(*found)
            since = found[0]

    def close(self) -> None:
        """Wait until a snapshot that is being written is whole, and close the file."""
        if self._taking is not None:
            self._taking.join()
        self.database.close()
