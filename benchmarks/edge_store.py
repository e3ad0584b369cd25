"""What a live agent's store costs: readings of 115 values stored in batches, at a pace, and snapshots of 1,000 devices.

The first table is processor time; waits for the disk are in the others: milliseconds from the moment a reading was due, 2,000 a second,
until it was stored, and how long the loop and the disk are held by a snapshot of 1,000 × 200 × 8 values.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from table import options, told

from vedette.edge.incidents import Incidents, IncidentSettings
from vedette.edge.journal import packed
from vedette.edge.readings import Readings
from vedette.edge.store import Store

FEATURES, PACE, SECONDS = 115, 2_000, 10


def batch(rows: int) -> Readings:
    values = np.random.default_rng(rows).normal(size=(rows, FEATURES))
    return Readings(np.arange(rows, dtype=np.int32), np.arange(rows, dtype=float), values)


def throughput(store: Store, rows: int, repeats: int) -> float:
    """Return readings a second of processor time, all threads of this process added up."""
    readings, best = batch(rows), 0.0
    for _ in range(repeats):
        begin, count = time.process_time(), 40_000 // rows
        for _ in range(count):
            store.append(packed(readings), "")
            if store.due:
                store.snapshot({})
        best = max(best, count * rows / (time.process_time() - begin))
    return best


def paced(store: Store) -> list[float]:
    """Return milliseconds from when a reading was due until it was stored; whatever is due is stored together."""
    late: list[float] = []
    readings, done, begin = batch(PACE), 0, time.perf_counter()
    while done < PACE * SECONDS:
        due = min(int((time.perf_counter() - begin) * PACE), PACE * SECONDS)
        if due == done:
            time.sleep(0.0003)
            continue
        due = min(due, done + PACE)
        store.append(packed(readings.take(slice(0, due - done))), "")
        now = time.perf_counter() - begin
        late += [1e3 * (now - place / PACE) for place in range(done, due)]
        done = due
        if store.due:
            store.snapshot({})
    return sorted(late)


def snapshots(store: Store, repeats: int) -> tuple[float, float]:
    """Return for how many milliseconds the loop is held, and until it is on the disk."""
    held: list[float] = []
    whole: list[float] = []
    values = np.zeros((1_000, 200, 8))
    for _ in range(repeats):
        begin = time.perf_counter()
        store.snapshot({"windows": values.copy()})
        held.append(1e3 * (time.perf_counter() - begin))
        while store.taking:
            time.sleep(0.001)
        whole.append(1e3 * (time.perf_counter() - begin))
    return min(held), min(whole)


def incidents(repeats: int) -> float:
    """Return microseconds a reading of a device that is within an incident throughout."""
    scores, best = np.full(50, 3.0), float("inf")
    for _ in range(repeats):
        found, begin = Incidents(IncidentSettings()), time.process_time()
        for place in range(0, 50_000, 50):
            found.advance(0, "pump-1", np.arange(place, place + 50.0), scores, 1.0, scores > 1, np.arange(50))
            found.drained()
        best = min(best, 20 * (time.process_time() - begin))
    return best


def main() -> None:
    chosen = options(__doc__ or "").parse_args()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for size in (1, 20, 200, 1_000):
            found[f"stored in batches of {size:,}, readings a second"] = throughput(store, size, chosen.repeats)
        late = paced(store)
        for share in (50, 99, 99.9):
            found[f"{PACE:,} a second, ms until stored, p{share:g}"] = late[int(len(late) * share / 100)]
        held, whole = snapshots(store, chosen.repeats)
        found |= {"snapshot of 12.8 MB, ms that the loop is held": held, "snapshot of 12.8 MB, ms until it is on the disk": whole}
        found["a reading within an incident, µs"] = incidents(chosen.repeats)
        store.close()
    told("edge_store", [{"what": what, "measured": value} for what, value in found.items()], chosen.json)


if __name__ == "__main__":
    main()
