"""Times of readings: each device's in order, whatever clocks, networks and repeated deliveries do to them."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from vedette.edge.counting import Counts
from vedette.message import Array

__all__ = ["Order"]

STEP = 1e-6
"""Seconds by which a reading is put behind the last one of its device where its time says nothing."""
SLIP = 1.0
"""Seconds that the clock of this machine may fall back without being mentioned."""
FEW = 16
"""Readings that are gone through one by one sooner than all at once."""
SPACED = 2.0**32
"""Seconds since 1970 (the year 2106) up to which two numbers of 64 bits lie less than half a `STEP` apart."""
KEPT = 256
"""Times of a device that are kept to know duplicates by, where disorder is tolerated."""


class Order:
    """The last time of each device, and what follows from it for the next reading.

    Parameters
    ----------
    counts
        Where ``"duplicate"``, ``"disorder"``, ``"clock-ahead"`` and ``"clock-back"`` are counted.
    tolerance
        Seconds that a reading may be older than the last one of its device.
    ahead
        Seconds that a reading may be later than its own arrival.
    patience
        After so many seconds in which a device sent only old readings its clock is taken to be set back.
    """

    def __init__(self, counts: Counts, tolerance: float = 0.0, ahead: float = 300.0, patience: float = 60.0) -> None:
        self._counts, self._tolerance, self._ahead, self._patience = counts, tolerance, ahead, patience
        self._last = np.full(64, -np.inf)
        self._behind: dict[int, float] = {}
        self._recent: dict[int, deque[float]] = {}

    def settled(self, devices: Array, times: Array, stated: Array, arrived: Array) -> tuple[Array, Array | None]:
        """Return the times that hold, and which readings are kept (None: all).

        Parameters
        ----------
        devices
            [n] int32, places.
        times
            [n] float64 seconds: as the reading says where it does, else when it arrived.
        stated
            [n] bool, whether the reading says it.
        arrived
            [n] float64 seconds; NaN where arrival means nothing, because a recording is read.
        """
        if not len(devices):
            return times, None
        self._grow(int(devices.max()) + 1)
        if len(devices) > FEW and not self._tolerance and not (stated & (times > arrived + self._ahead)).any():
            rows = np.argsort(devices, kind="stable")
            d, t = devices[rows], times[rows]
            begins = np.concatenate([[True], d[1:] != d[:-1]])
            before = np.concatenate([[0.0], t[:-1]])
            before[begins] = self._last[d[begins]]
            if (t > before).all():
                ends = np.concatenate([begins[1:], [True]])
                self._last[d[ends]] = t[ends]
                if self._behind:
                    for place in d[ends].tolist():
                        self._behind.pop(place, None)
                return times, None
            starts = np.flatnonzero(begins | (t != before))
            if not stated.any() and FEW * len(starts) <= len(rows) and t.max() < SPACED:
                found = np.empty_like(times)
                found[rows] = self._together(d, t, starts)
                return found, None
        found, keep = times.copy(), np.ones(len(times), dtype=bool)
        said = zip(devices.tolist(), times.tolist(), stated.tolist(), arrived.tolist(), strict=True)
        for row, (place, time, own, at) in enumerate(said):
            held = self.one(place, time, own, at)
            if held is None:
                keep[row] = False
            else:
                found[row] = held
        return found, None if keep.all() else keep

    def one(self, place: int, time: float, stated: bool, arrived: float) -> float | None:
        """Return the time that holds of one reading; None: it is not kept. See `settled`."""
        if place >= len(self._last):
            self._grow(place + 1)
        own, at = stated, arrived
        last = float(self._last[place])
        if own and time > at + self._ahead:
            self._counts.add("clock-ahead", time)
            own, time = False, at
        if own and time <= last:
            if time == last or time in self._recent.get(place, ()):
                self._counts.add("duplicate", time)
                return None
            if last - time <= self._tolerance:
                self._keep(place, time)
                return time
            if math.isnan(at) or at - self._behind.setdefault(place, at) <= self._patience:
                self._counts.add("disorder", time)
                return None
            self._counts.add("clock-back", time)
            time = at
        elif own:
            self._behind.pop(place, None)
        if time <= last:
            if last - time > SLIP:
                self._counts.add("clock-back", time)
            time = max(last + STEP, math.nextafter(last, math.inf))
        self._last[place] = time
        if self._tolerance:
            self._keep(place, time)
        return time

    def _together(self, devices: Array, times: Array, starts: Array) -> Array:
        """Return the times that hold, as `one` would, of readings that say none: of one device and arrived together from start to start."""
        found = np.full(len(times), STEP)
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(times)], strict=True):
            place, at = int(devices[start]), float(times[start])
            found[start] = self.one(place, at, False, at)
            if found[start] - at > SLIP - STEP * (end - start):
                found[start + 1 : end] = [self.one(place, at, False, at) for _ in range(start + 1, end)]
                continue
            # Added up one by one, as single readings are: to the last bit the same wherever batches end.
            np.add.accumulate(found[start:end], out=found[start:end])
            self._last[place] = found[end - 1]
        return found

    def recall(self, devices: Array, times: Array) -> None:
        """Take note of readings that were taken before, by this process or an earlier one."""
        if len(devices):
            self._grow(int(devices.max()) + 1)
            np.maximum.at(self._last, devices, times)

    def last(self, count: int) -> Array:
        """Return [count] float64, the last time of each device; -inf where there was none."""
        self._grow(count)
        return self._last[:count].copy()

    def _keep(self, place: int, time: float) -> None:
        self._recent.setdefault(place, deque(maxlen=KEPT)).append(time)

    def _grow(self, count: int) -> None:
        if count > len(self._last):
            more = np.full(max(count, 2 * len(self._last)) - len(self._last), -np.inf)
            self._last = np.concatenate([self._last, more])
