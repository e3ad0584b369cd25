"""Latency: how soon a reading is judged by the bundle that a device would have, one by one and under load."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from vedette.data.table import Table
from vedette.detectors.base import Detector
from vedette.detectors.bundle import save_bundle
from vedette.edge.readings import Readings
from vedette.edge.scorer import Scorer
from vedette.errors import DataUnusable
from vedette.message import Array
from vedette.seeds import stream

__all__ = ["LOADS", "latency"]

LOADS = (100, 1_000, 10_000)
"""Readings that arrive in a second."""

READINGS = 2_000
"""Judged one by one."""

WARMING = 100
"""Readings before them: what libraries load when they are first used is no part of it."""

FEWEST = 400
"""Readings under each load, at least; else those of a second."""

DRAINED = 4_096
"""Waiting readings that are judged together, at most."""


def latency(detector: Detector, table: Table, loads: Sequence[int] = LOADS, readings: int = READINGS) -> dict[str, Any]:
    """Measure how long it takes from a reading's arrival to its verdict: scaling, window, network (ONNX Runtime) and threshold.

    The detector is written as a bundle and read again, as by a device. Under load readings arrive at random times that do not wait for
    anybody (a Poisson process), and those that have arrived meanwhile are judged together.

    Parameters
    ----------
    detector
        A fitted one that can be stored.
    table
        Readings; the first of them are gone through, again where they are too few.
    loads
        Readings a second.
    readings
        How many are judged one by one.

    Returns
    -------
    dict
        ``readings``, and ``p50`` and ``p99`` of their seconds; ``cpu_p50`` and ``cpu_p99`` of the processor's, which do not hang on what
        else the machine does; ``loads``: of each load ``per_second``, ``readings``, ``p50``, ``p99``,
        and ``together``, how many were judged at once on average.

    Raises
    ------
    DataUnusable
        There are no rows.
    DetectorMisused
        It cannot be stored.
    """
    if not len(table):
        raise DataUnusable("latency is measured on rows, and there are none")
    with TemporaryDirectory(prefix="vedette-") as place:
        folder = Path(place) / "bundle"
        save_bundle(detector, folder)
        first = slice(0, max(WARMING + readings, FEWEST, *loads))
        rows = _readings(detector.scaler.scaling.chosen(table.take(first)))
        taken, spent = _one_by_one(Scorer.of(folder), detector.threshold_, rows, readings)
        under = [_under(Scorer.of(folder), detector.threshold_, rows, load) for load in loads]
    processor = {f"cpu_{name}": value for name, value in _percentiles(spent).items()}
    return {"readings": readings, **_percentiles(taken), **processor, "loads": under}


def _readings(table: Table) -> Readings:
    """Return rows as one device's readings, a second apart."""
    devices = np.zeros(len(table), dtype=np.int32)
    return Readings(devices, np.arange(len(table), dtype=np.float64), np.ascontiguousarray(table.numbers), table.categories)


def _one_by_one(scorer: Scorer, threshold: float, rows: Readings, readings: int) -> tuple[Array, Array]:
    taken = np.empty((2, WARMING + readings))
    for place in range(WARMING + readings):
        at = place % len(rows)
        one = rows.take(slice(at, at + 1))
        begun, spent = time.perf_counter(), time.thread_time()
        bool(scorer.score(one)[0] > threshold)
        taken[:, place] = time.perf_counter() - begun, time.thread_time() - spent
    return taken[0, WARMING:], taken[1, WARMING:]


def _under(scorer: Scorer, threshold: float, rows: Readings, load: int) -> dict[str, Any]:
    readings = max(FEWEST, load)
    due = np.cumsum(stream(0, "arrivals", load).exponential(1 / load, readings))
    taken, done, times = np.empty(readings), 0, 0
    begun = time.perf_counter()
    while done < readings:
        now = time.perf_counter() - begun
        here = min(int(np.searchsorted(due, now, side="right")), done + DRAINED)
        if here == done:
            time.sleep(max(due[done] - now, 0.0))
            continue
        scorer.score(rows.take(np.arange(done, here) % len(rows))) > threshold  # noqa: B015 - the verdict is part of it
        taken[done:here] = time.perf_counter() - begun - due[done:here]
        done, times = here, times + 1
    return {"per_second": load, "readings": readings, **_percentiles(taken), "together": readings / times}


def _percentiles(taken: Array) -> dict[str, float]:
    return {"p50": float(np.quantile(taken, 0.5)), "p99": float(np.quantile(taken, 0.99))}
