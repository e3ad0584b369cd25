"""The file of a sentry: SQLite, written in transactions that a killed process leaves whole."""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vedette.errors import CheckpointError, StorageError, VedetteError

__all__ = ["Database"]

VERSION = 1

WRITE_BACK, LONGEST = 4 << 20, 64 << 20
"""Bytes after which the log is written back, and which it may be long."""

SCHEMA = """
create table journal (place integer primary key, position text not null, notes text not null, readings blob not null);
create table devices (place integer primary key, name text not null);
create table events (
    place integer primary key autoincrement, id text not null unique, kind text not null, incident text not null,
    said text not null, sample blob not null
);
create index events_of_incident on events (incident);
create table incidents (id text primary key, place integer not null, open integer not null, said text not null);
create index incidents_by_place on incidents (place);
create index incidents_open on incidents (open);
create table outbox (
    place integer primary key autoincrement, sink text not null, event integer not null, incident text not null, kind text not null
);
create index outbox_of_sink on outbox (sink, place);
create index outbox_of_incident on outbox (incident);
create index outbox_of_event on outbox (event);
create table acknowledgements (
    place integer primary key autoincrement, event text not null, said text not null, verdict integer not null, applied integer
);
create table responses (
    place integer primary key autoincrement, rule text not null, event text not null, time real not null,
    state text not null, about text not null, unique (rule, event)
);
create table models (digest text primary key, about text not null);
create table facts (name text primary key, value text not null);
"""


class Database:
    """One connection for all threads of a process; one process at a time is the writer, others may read and add a little.

    Parameters
    ----------
    folder
        Where; made if it is not there.
    writer
        Whether this process is the one.

    Attributes
    ----------
    turn
        Held while the connection is used; notified when there is something new to be told.

    Raises
    ------
    StorageError
        The place is not writable, another process writes there already, or there is nothing to be read.
    CheckpointError
        The file is damaged, or of another version.
    """

    def __init__(self, folder: Path, writer: bool = True) -> None:
        self.folder, self.path = folder, folder / "sentry.db"
        self.turn = threading.Condition(threading.RLock())
        self._lock: Any = None
        self._keeper: threading.Thread | None = None
        self._due, self._unwritten, self._closing = threading.Event(), 0, False
        try:
            if writer:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._lock = (folder / "lock").open("w")
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # What was read is its owner's; SQLite gives the files beside it the same rights.
                self.path.touch(0o600)
            elif not self.path.is_file():
                raise StorageError(f"{folder} holds no events: say the folder that 'vedette watch' was given with --out")
            self._connection = self._opened()
            if writer:
                self._keeper = threading.Thread(target=self._write_back, name="write back", daemon=True)
                self._keeper.start()
        except BlockingIOError:
            self._unlock()
            raise StorageError(f"{folder} is in use by another 'vedette watch'; choose another folder with --out") from None
        except OSError as error:
            self._unlock()
            raise StorageError(f"cannot write {folder}: {error.strerror or error}; choose another folder with --out") from None
        except VedetteError:
            self._unlock()
            raise

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def _opened(self) -> sqlite3.Connection:
        connection = None
        try:
            connection = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
            connection.execute("pragma journal_mode = wal")
            # A killed process loses nothing; cut power may lose the last moment, never what lies before it.
            connection.execute("pragma synchronous = normal")
            # Usually the log is written back by `_write_back`; where that cannot keep up, whoever writes waits for it.
            connection.execute(f"pragma wal_autocheckpoint = {LONGEST // 4096}")
            connection.execute(f"pragma journal_size_limit = {LONGEST // 2}")
            version = connection.execute("pragma user_version").fetchone()[0]
            if version == 0:
                connection.executescript(f"begin immediate; {SCHEMA} pragma user_version = {VERSION}; commit;")
            elif version != VERSION:
                raise CheckpointError(f"{self.path} is of version {version}, not {VERSION}; choose another folder with --out")
            return connection
        except (sqlite3.DatabaseError, CheckpointError) as error:
            if connection is not None:
                connection.close()
            if isinstance(error, CheckpointError):
                raise
            if isinstance(error, sqlite3.OperationalError):
                raise StorageError(f"cannot write {self.path}: {error}; free some space or choose another folder with --out") from None
            raise CheckpointError(f"cannot read {self.path}: {error}; choose another folder with --out") from None

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection.

        Raises
        ------
        StorageError
            The file cannot be read.
        """
        with self.turn:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise StorageError(f"cannot read {self.path}: {error}") from None

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection in a transaction: all that is written in it is stored, or nothing.

        Raises
        ------
        StorageError
            It could not be written.
        """
        with self.turn:
            try:
                self._connection.execute("begin immediate")
                yield self._connection
                self._connection.execute("commit")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
                if isinstance(error, sqlite3.Error):
                    raise StorageError(f"cannot write {self.path}: {error}; what was stored before is unchanged") from None
                raise

    def added(self, size: int) -> None:
        """Hear of so many bytes more in the log."""
        self._unwritten += size
        if self._unwritten > WRITE_BACK:
            self._unwritten = 0
            self._due.set()

    def _write_back(self) -> None:
        """Write the log back into the file now and then: what waits for the disk here need not wait between two readings."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            while self._due.wait() and not self._closing:
                self._due.clear()
                # A full disk shows where something is to be stored.
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("pragma wal_checkpoint(passive)").fetchall()
        finally:
            connection.close()

    def fact(self, name: str, default: str) -> str:
        """Return a fact that was stored under a name."""
        with self.reading() as db:
            found = db.execute("select value from facts where name = ?", (name,)).fetchone()
        return default if found is None else str(found[0])

    def close(self) -> None:
        """Close the file, and let others write."""
        self._closing = True
        self._due.set()
        if self._keeper is not None:
            self._keeper.join()
        with self.turn:
            self._connection.close()
            self._unlock()
