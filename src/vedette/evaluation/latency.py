"""Latency: how soon a reading is judged by the bundle that a device would have, one by one and under load."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from vedette.data.table import Table
from vedette.data.windows import averaged
from vedette.detectors.base import Detector
from vedette.detectors.bundle import load_bundle, save_bundle
from vedette.errors import DataUnusable
from vedette.message import Array
from vedette.seeds import stream

__all__ = ["LOADS", "Live", "latency"]

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


class Live:
    """Scores readings as they come, each with those of its window before it: as if all were one unbroken recording.

    Parameters
    ----------
    detector
        A fitted one.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._before: Array | None = None
        self._said = np.zeros(0)

    def scores(self, table: Table) -> Array:
        """Return the scores [rows] float64 of the next rows."""
        window, rows = self._detector.window, self._detector.scaler.transform(table)
        before = np.repeat(rows[:1], window.size - 1, axis=0) if self._before is None else self._before
        seen = np.concatenate([before, rows])
        self._before = seen[len(rows) :]
        windows = seen[None] if len(rows) == 1 else np.lib.stride_tricks.sliding_window_view(seen, window.size, axis=0).transpose(0, 2, 1)
        scores = self._detector.score_samples(windows.reshape(len(rows), -1))
        if window.average == 1:
            return scores
        said = np.concatenate([self._said, scores])
        self._said = said[max(0, len(said) - window.average + 1) :]
        return averaged(said, np.arange(len(said)), window.average)[-len(rows) :]


def latency(detector: Detector, table: Table, loads: Sequence[int] = LOADS, readings: int = READINGS) -> dict[str, Any]:
    """Measure how long it takes from a reading's arrival to its verdict: scaling, window, network (ONNX Runtime) and threshold.

    The detector is written as a bundle and read again, as by a device. Under load readings arrive at random times that do not wait for
    anybody (a Poisson process), and those that have arrived meanwhile are judged together.

    Parameters
    ----------
    detector
        A fitted one that can be stored.
    table
        Readings; they are gone through again and again.
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
    with TemporaryDirectory(prefix="vedette-") as folder:
        save_bundle(detector, Path(folder) / "bundle")
        stored = load_bundle(Path(folder) / "bundle")
    taken, spent = _one_by_one(stored, table, readings)
    processor = {f"cpu_{name}": value for name, value in _percentiles(spent).items()}
    return {"readings": readings, **_percentiles(taken), **processor, "loads": [_under(stored, table, load) for load in loads]}


def _one_by_one(detector: Detector, table: Table, readings: int) -> tuple[Array, Array]:
    live, threshold, taken = Live(detector), detector.threshold_, np.empty((2, WARMING + readings))
    for place in range(WARMING + readings):
        at = place % len(table)
        begun, spent = time.perf_counter(), time.thread_time()
        bool(live.scores(table.take(slice(at, at + 1)))[0] > threshold)
        taken[:, place] = time.perf_counter() - begun, time.thread_time() - spent
    return taken[0, WARMING:], taken[1, WARMING:]


def _under(detector: Detector, table: Table, load: int) -> dict[str, Any]:
    readings = max(FEWEST, load)
    due = np.cumsum(stream(0, "arrivals", load).exponential(1 / load, readings))
    live, threshold, taken, done, times = Live(detector), detector.threshold_, np.empty(readings), 0, 0
    begun = time.perf_counter()
    while done < readings:
        now = time.perf_counter() - begun
        here = min(int(np.searchsorted(due, now, side="right")), done + DRAINED)
        if here == done:
            time.sleep(max(due[done] - now, 0.0))
            continue
        live.scores(table.take(np.arange(done, here) % len(table))) > threshold  # noqa: B015 - the verdict is part of it
        taken[done:here] = time.perf_counter() - begun - due[done:here]
        done, times = here, times + 1
    return {"per_second": load, "readings": readings, **_percentiles(taken), "together": readings / times}


def _percentiles(taken: Array) -> dict[str, float]:
    return {"p50": float(np.quantile(taken, 0.5)), "p99": float(np.quantile(taken, 0.99))}
