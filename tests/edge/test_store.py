"""The store: what was stored comes back after kills, full disks and damage, and it stays as small as it was told to."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from told import event

from vedette.data.table import Coded
from vedette.edge.database import Database
from vedette.edge.events import EventKind
from vedette.edge.journal import packed, unpacked
from vedette.edge.readings import Readings
from vedette.edge.records import Records
from vedette.edge.store import Store
from vedette.errors import CheckpointError, StorageError, UnknownName

EVERYTHING: dict[str, tuple[EventKind, ...]] = {"sink": ("alert", "opened", "updated", "closed")}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store", sinks={"all": ("alert", "opened", "updated", "closed"), "ends": ("closed",)})
    yield store
    store.close()


def waiting(store: Store, sink: str) -> list[tuple[str, float]]:
    return [(one.event.kind, one.event.time - one.event.began) for one in store.outbox.waiting(sink)]


def settled(store: Store) -> None:
    """Wait until no snapshot is being written."""
    end = time.monotonic() + 10
    while store.taking and time.monotonic() < end:
        threading.Event().wait(0.002)
    assert not store.taking


def test_readings_come_back_to_the_last_bit() -> None:
    numbers = np.array([[1.5, np.nan], [-0.0, np.inf], [3e-320, 4.0]], order="F")
    times = np.array([1.0, 2.0, 1e9 + 0.1])
    column = Coded(np.array([0, 1, 0], np.int32), ("grün", "red\n"))
    given = Readings(np.array([0, 5, 0], np.int32), times, numbers, (column,))
    found = unpacked(packed(given))
    assert found.numbers.tobytes() == np.ascontiguousarray(numbers).tobytes()
    assert (found.devices.tolist(), found.times.tolist(), found.categories[0].texts()) == (
        [0, 5, 0],
        times.tolist(),
        ["grün", "red\n", "grün"],
    )
    assert (found.devices.dtype, found.categories[0].levels) == (np.int32, column.levels)
    for damaged in (b"", packed(given)[:-1], packed(given) + b"x", b"[1]\n", b"\xff\n"):
        with pytest.raises(CheckpointError, match="damaged"):
            unpacked(damaged)


def test_a_batch_is_stored_with_its_events_names_and_notes(store: Store, tmp_path: Path) -> None:
    store.append(b"first", "7", names=["a", "b"])
    store.append(b"second", "9", [event("opened")], samples={"i" * 64: b"values"}, names=["a", "b", "c"], notes="swapped")
    store.close()
    again = Store(tmp_path / "store", sinks=EVERYTHING)
    found = again.recover()
    assert (found.memory, found.names, found.position) == (None, ["a", "b", "c"], "9")
    assert [(batch.place, batch.position, batch.notes, batch.readings) for batch in found.batches] == [
        (1, "7", "", b"first"),
        (2, "9", "swapped", b"second"),
    ]
    kept = again.records.event(event("opened").id[:8])
    assert (kept.event, kept.sample) == (event("opened"), b"values")
    assert again.records.incidents(open_only=True) == [event("opened")]
    again.append(b"", "9", [event("closed")])
    assert again.records.incidents(open_only=True) == []
    assert again.records.events(event("opened").incident) == [event("opened"), event("closed")]
    again.close()


def test_an_event_stored_twice_is_told_once(store: Store) -> None:
    store.append(b"", "", [event("opened")])
    first = store.outbox.waiting("all")
    store.outbox.accepted([one.place for one in first])
    store.append(b"", "", [event("opened"), event("closed")])
    assert waiting(store, "all") == [("closed", 0.0)]
    assert waiting(store, "ends") == [("closed", 0.0)]
    assert store.outbox.counts() == {"all": 1, "ends": 1}


def test_of_updates_that_wait_only_the_newest_is_told(store: Store) -> None:
    store.append(b"", "", [event("opened", 1), event("updated", 1, updates=1), event("opened", 2), event("updated", 2, updates=2)])
    store.append(b"", "", [event("updated", 1, updates=5)])
    assert waiting(store, "all") == [("opened", 0.0), ("opened", 0.0), ("updated", 2.0), ("updated", 5.0)]
    store.append(b"", "", [event("closed", 1, updates=6)])
    assert waiting(store, "all") == [("opened", 0.0), ("opened", 0.0), ("updated", 2.0), ("closed", 6.0)]


def test_what_waits_for_a_sink_that_is_no_more_is_forgotten(store: Store, tmp_path: Path) -> None:
    store.append(b"", "", [event("opened"), event("closed")])
    store.close()
    other = Store(tmp_path / "store", sinks={"ends": ("closed",)})
    assert other.outbox.forget_others() == 2
    assert other.outbox.counts() == {"ends": 1}
    other.close()


def test_a_snapshot_stands_for_the_batches_before_it(store: Store, tmp_path: Path) -> None:
    for place in range(3):
        store.append(b"x", str(place))
    store.snapshot({"windows": np.arange(4.0), "count": 3.0, "said": "so"})
    settled(store)
    store.append(b"y", "3")
    store.close()
    again = Store(tmp_path / "store")
    found = again.recover()
    assert found.memory is not None
    assert (np.asarray(found.memory["windows"]).tolist(), found.memory["count"], found.memory["said"]) == ([0, 1, 2, 3], 3.0, "so")
    assert [batch.position for batch in found.batches] == ["3"]
    # What was read before is there to be looked at, while there is room.
    assert [batch.position for batch in again.batches()] == ["0", "1", "2", "3"]
    again.close()
    path = next((tmp_path / "store").glob("snapshot-*"))
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes()[:-3])
    damaged = Store(tmp_path / "store")
    with pytest.raises(CheckpointError, match="damaged"):
        damaged.recover()
    damaged.close()


def test_it_stays_within_its_limit(tmp_path: Path) -> None:
    limit = 1 << 19
    store = Store(tmp_path, limit, EVERYTHING)
    sizes, looking = [], sqlite3.connect(store.database.path)
    for number in range(700):
        news = [event("opened", number), event("closed", number)]
        store.append(os.urandom(4_000), str(number), news, samples={"i" * 64: bytes(500)})
        store.outbox.accepted([one.place for one in store.outbox.waiting("sink")])
        if store.due:
            store.snapshot({"count": float(number)})
            settled(store)
        # Written back to the file or not yet.
        sizes.append(4096 * looking.execute("pragma page_count").fetchone()[0])
    looking.close()
    # Six times the limit went through; the pages of what is gone are used again.
    assert sizes[-1] == sizes[300] <= 1.3 * limit
    kept = store.records.incidents()
    assert [one.device for one in kept[:1]] == ["pump-1"]
    assert 20 < len(kept) < 100
    assert store.records.event(event("closed", 699).id).event == event("closed", 699)
    with pytest.raises(UnknownName, match="no event here"):
        store.records.event(event("opened", 0).id)
    assert store.dropped == 0
    assert len(list(tmp_path.glob("snapshot-*"))) == 1
    store.close()


def test_open_incidents_and_what_waits_outlast_what_is_over(tmp_path: Path) -> None:
    store = Store(tmp_path, 400_000, EVERYTHING)
    store.append(b"", "", [event("opened", 0), event("opened", 1), event("closed", 1)])
    mine = {one.place for one in store.outbox.waiting("sink") if one.event.incident == event("opened", 0).incident}
    store.outbox.accepted(sorted(mine))
    for number in range(2, 100):
        store.append(b"", "", [event("opened", number), event("closed", number)])
        store.outbox.accepted([one.place for one in store.outbox.waiting("sink") if one.place not in (2, 3)])
    # The first is open, the second was never accepted: both are kept, those after them went.
    assert [one.incident for one in store.records.incidents(open_only=True)] == [event("opened", 0).incident]
    assert [one.event.incident for one in store.outbox.waiting("sink")] == [event("opened", 1).incident] * 2
    assert store.records.events(event("opened", 2).incident) == []
    assert store.records.events(event("opened", 0).incident) == [event("opened", 0)]
    # Nobody accepts anything any more: the oldest go when there is no other room, and are counted.
    for number in range(100, 300):
        store.append(b"", "", [event("opened", number), event("closed", number)])
    assert 0 < store.dropped == 2 * 201 - store.outbox.counts()["sink"]
    assert store.outbox.waiting("sink", 1000)[-1].event == event("closed", 299)
    store.close()
    again = Store(tmp_path, sinks=EVERYTHING)
    assert again.dropped == store.dropped
    again.close()


def test_a_snapshot_that_cannot_be_stored_is_tried_again_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path, 100_000)
    store.append(bytes(20_000), "")
    assert store.due
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        store.snapshot({"large": np.zeros(10_000)})
        settled(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    # Not at the next reading, nor at the one after.
    assert not store.due
    monkeypatch.setattr(store, "_again", 0.0)
    assert store.due
    store.snapshot({"large": np.zeros(10_000)})
    settled(store)
    assert not store.due
    assert np.asarray((store.recover().memory or {})["large"]).shape == (10_000,)
    store.close()


def test_readings_without_a_snapshot_end_in_an_error_that_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path, 100_000)
    for _ in range(6):
        store.append(bytes(10_000), "")
    with pytest.raises(StorageError, match="without a new snapshot"):
        store.append(bytes(10_000), "")
    assert store.due
    store.snapshot({})
    settled(store)
    store.append(bytes(10_000), "")
    store.close()


def test_acknowledgements_come_from_other_processes_and_are_heard_once(store: Store) -> None:
    store.append(b"", "", [event("opened", 1), event("opened", 2)])
    assert store.records.acknowledgements() == []
    other = Database(store.folder, writer=False)
    Records(other).acknowledge(event("opened", 1).id[:10], true=False)
    other.close()
    (found,) = store.records.acknowledgements()
    assert (found.event, found.true) == (event("opened", 1), False)
    assert store.records.acknowledgements() == []
    store.append(b"", "", applied=[found.place])
    store.records.acknowledge(event("opened", 2).id, true=True)
    store.close()
    again = Store(store.folder)
    # The first was applied, the second not yet.
    assert [(one.event.id, one.true) for one in again.records.acknowledgements()] == [(event("opened", 2).id, True)]
    with pytest.raises(UnknownName, match="no event here begins with 'beef"):
        again.records.acknowledge("beef", True)
    with pytest.raises(UnknownName, match="several"):
        again.records.event("")
    again.close()


def test_models_are_kept_in_order(store: Store) -> None:
    store.records.keep_model("bb", {"state": "live"})
    store.records.keep_model("aa", {"state": "shadow"})
    store.records.keep_model("bb", {"state": "old"})
    assert list(store.records.models().items()) == [("bb", {"state": "old"}), ("aa", {"state": "shadow"})]


def test_one_process_at_a_time_writes(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="in use by another"):
        Store(store.folder)
    assert store.database.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StorageError, match="holds no events"):
        Database(tmp_path / "nowhere", writer=False)


def test_a_file_that_is_damaged_or_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sentry.db").write_bytes(b"no database at all, but long enough" * 100)
    with pytest.raises(CheckpointError, match="cannot read"):
        Store(tmp_path)
    (tmp_path / "other").mkdir()
    with sqlite3.connect(tmp_path / "other/sentry.db") as db:
        db.execute("pragma user_version = 77")
    db.close()
    with pytest.raises(CheckpointError, match="version 77"):
        Store(tmp_path / "other")


def test_a_full_disk_loses_nothing_that_was_stored(tmp_path: Path) -> None:
    store, stored, said = Store(tmp_path, sinks=EVERYTHING), [], set()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
    try:
        for number in range(80):
            try:
                store.append(os.urandom(20_000), str(number), [event("opened", number)])
                stored.append(number)
            except StorageError as error:
                said.add(str(error).partition("; ")[2])
        store.snapshot({"large": np.zeros(100_000)})
        settled(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 5 < len(stored) < 60
    assert said == {"what was stored before is unchanged"}
    assert store.append(b"after", "after") == len(stored) + 1
    store.close()
    again = Store(tmp_path, sinks=EVERYTHING)
    found = again.recover()
    assert found.memory is None
    assert [batch.position for batch in found.batches] == [*map(str, stored), "after"]
    assert [one.event for one in again.outbox.waiting("sink")] == [event("opened", number) for number in stored]
    again.close()


def write_on(folder: Path, more: int | None, pipe: int) -> None:
    """Store batches from where the store left off, so many more or without end, and tell of each that is stored."""
    store = Store(folder, 64 << 20, EVERYTHING)
    found = store.recover()
    count = int(float(found.memory["count"])) if found.memory else 0  # type: ignore[arg-type]
    for batch in found.batches:
        assert batch.position == str(count)
        count += 1
    last = count + more if more is not None else -1
    while count != last:
        news = [event("opened", count), event("closed", count)] if count % 3 == 0 else []
        store.append(bytes([count % 251]) * 5_000, str(count), news)
        count += 1
        os.write(pipe, b"%d\n" % count)
        if count % 40 == 0:
            store.snapshot({"count": float(count), "state": np.full(10_000, count)})
    store.close()


def test_killed_at_any_moment_it_holds_what_it_said_it_had_stored(tmp_path: Path) -> None:
    rng, said, kills = random.Random(5), 0, 12
    for attempt in range(kills + 1):
        reading, writing = os.pipe()
        delay = rng.uniform(0.005, 0.06)
        child = os.fork()
        if child == 0:
            try:
                os.close(reading)
                if attempt < kills:
                    # The system ends it as by SIGKILL, wherever it is then.
                    signal.signal(signal.SIGALRM, signal.SIG_DFL)
                    signal.setitimer(signal.ITIMER_REAL, delay)
                write_on(tmp_path, None if attempt < kills else 10, writing)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(writing)
        with os.fdopen(reading) as lines:
            said = max([said, *map(int, lines)])
        assert os.waitpid(child, 0)[1] == (signal.SIGALRM if attempt < kills else 0)
        store = Store(tmp_path, 64 << 20, EVERYTHING)
        found = store.recover()
        batches = list(found.batches)
        count = (int(float(found.memory["count"])) if found.memory else 0) + len(batches)  # type: ignore[arg-type]
        # One may be stored that it had no time to tell of.
        assert said <= count <= said + 1
        assert all(batch.readings == bytes([int(batch.position) % 251]) * 5_000 for batch in batches)
        told = [one.event for one in store.outbox.waiting("sink", 100_000)]
        assert told == [event(kind, number) for number in range(0, count, 3) for kind in ("opened", "closed")]
        store.close()
        said = count
    assert said > 100
