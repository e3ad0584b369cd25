"""The rows before a reading, of each device: kept in one array, begun anew after a pause or where a clock jumps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from vedette.message import Array, Memory

__all__ = ["Histories", "Intervals", "Ordered", "grouped", "grown", "ordered"]

STEPS = 32
"""Intervals that the usual one is the median of."""
FIRST = (4, 8, 16)
"""Intervals after which there is a first, rougher, median."""


class Ordered(NamedTuple):
    """A batch, device by device.

    Attributes
    ----------
    rows
        [n] int, the rows of the batch, those of a device together in the order of arrival.
    devices
        [n] int, the device of each of them.
    starts, ends
        [devices in the batch] int, where each device's rows begin and end.
    rank
        [n] int, how many rows of the batch a device had before.
    """

    rows: Array
    devices: Array
    starts: Array
    ends: Array
    rank: Array

    def steps(self, times: Array, last: Array) -> Array:
        """Return [n], the seconds since the reading before of the same device; `last`: the times before this batch, by device in it."""
        before = np.empty(len(times))
        before[1:] = times[:-1]
        before[self.starts] = last
        return np.asarray(times - before)


def ordered(devices: Array) -> Ordered:
    """Put the rows of a batch in order of their devices."""
    rows = np.argsort(devices, kind="stable")
    return grouped(rows, devices[rows])


def grouped(rows: Array, devices: Array) -> Ordered:
    """Return rows of a batch that stand device by device already, with where each device's begin and end."""
    count = len(rows)
    first = np.ones(count, dtype=bool)
    np.not_equal(devices[1:], devices[:-1], out=first[1:])
    starts = first.nonzero()[0]
    ends = np.empty_like(starts)
    ends[:-1], ends[-1:] = starts[1:], count
    return Ordered(rows, devices, starts, ends, np.arange(count) - starts.repeat(ends - starts))


def grown(array: Array, devices: int, fill: float = 0) -> Array:
    """Return an array with a row for each of at least so many devices, twice as many as before where there is no room."""
    if devices <= len(array):
        return array
    larger = np.full((max(devices, 2 * len(array)), *array.shape[1:]), fill, array.dtype)
    larger[: len(array)] = array
    return larger


class Intervals:
    """What time usually lies between two readings of a device, known from those before alone.

    It is the median of the last 32 intervals, taken anew every 32, and in the beginning after 4, 8 and 16; before that nothing is a pause.

    Parameters
    ----------
    pause
        Longest time within a stretch, in units of the usual; None if nothing breaks one (`Window.across`).
    """

    def __init__(self, pause: float | None) -> None:
        self.pause = pause
        self.last = np.zeros(0)
        self.usual = np.zeros(0)
        self._seen = np.zeros(0, dtype=np.int64)
        self._steps = np.zeros((0, STEPS), dtype=np.float64)

    def breaks(self, batch: Ordered, times: Array) -> Array:
        """Say which readings begin a new stretch, [n] bool in the batch's order of devices; `times` [n] in the same."""
        known = int(batch.devices[-1]) + 1
        self.last, self.usual = grown(self.last, known, np.nan), grown(self.usual, known, np.inf)
        self._seen, self._steps = grown(self._seen, known), grown(self._steps, known)
        whose = batch.devices[batch.starts]
        steps = batch.steps(times, self.last[whose])
        self.last[whose] = times[batch.ends - 1]
        if self.pause is None:
            return np.asarray(np.isnan(steps))
        forward = steps > 0
        counted = np.cumsum(forward)
        number = self._seen[batch.devices] + counted - np.repeat((counted - forward)[batch.starts], batch.ends - batch.starts)
        settled = forward & ((number % STEPS == 0) | np.isin(number, FIRST))
        usual = self.usual[batch.devices]
        renewed = np.unique(batch.devices[settled])
        for place in np.searchsorted(whose, renewed).tolist():
            self._renew(int(whose[place]), slice(int(batch.starts[place]), int(batch.ends[place])), steps, forward, settled, usual)
        rest = forward if not len(renewed) else forward & ~np.isin(batch.devices, renewed)
        self._steps[batch.devices[rest], (number[rest] - 1) % STEPS] = steps[rest]
        self._seen[whose] = number[batch.ends - 1]
        return np.asarray(~(steps >= 0) | (steps > self.pause * usual))

    def _renew(self, device: int, rows: slice, steps: Array, forward: Array, settled: Array, usual: Array) -> None:
        """Take the median of a device anew where it is due, and write into `usual` what holds for each of its rows."""
        seen = int(self._seen[device])
        kept = self._steps[device, np.arange(max(0, seen - STEPS), seen) % STEPS]
        new = steps[rows][forward[rows]]
        every = np.concatenate([kept, new])
        due = np.flatnonzero(settled[rows])
        ends = len(kept) + np.cumsum(forward[rows])[due]
        medians = np.array([np.median(every[max(0, end - STEPS) : end]) for end in ends.tolist()])
        held = np.concatenate([[self.usual[device]], medians])
        usual[rows] = held[np.searchsorted(due, np.arange(rows.stop - rows.start), side="left")]
        self.usual[device] = medians[-1]
        last = every[-STEPS:]
        self._steps[device, np.arange(seen + len(new) - len(last), seen + len(new)) % STEPS] = last

    def memory(self) -> Memory:
        """Return the state."""
        return {"last": self.last, "usual": self.usual, "seen": self._seen, "steps": self._steps}

    def restore(self, memory: Memory) -> None:
        """Take over a state."""
        self.last, self.usual, self._seen, self._steps = (np.array(memory[name]) for name in ("last", "usual", "seen", "steps"))


class Histories:
    """The last values of each device, [devices, depth, width] in one array, written round and round.

    Parameters
    ----------
    depth
        How many are kept of a device.
    width
        Numbers of each.
    kind
        What they are kept as.
    """

    def __init__(self, depth: int, width: int = 1, kind: type[np.floating[Any]] = np.float64) -> None:
        self.depth = depth
        self._values: Array = np.zeros((0, depth, width), dtype=kind)
        self._written = np.zeros(0, dtype=np.int64)

    def reserve(self, devices: int) -> None:
        """Make room for so many devices."""
        self._values, self._written = grown(self._values, devices), grown(self._written, devices)

    def back(self, devices: Array, steps: Array) -> Array:
        """Return [n, width], the values that were written so many steps ago (1: the last) by each device."""
        found: Array = self._values[devices, (self._written[devices] - steps) % max(self.depth, 1)]
        return found

    def count(self, device: int) -> int:
        """Return how many values of a device are held."""
        return min(int(self._written[device]), self.depth)

    def of(self, device: int) -> Array:
        """Return [n, width], the values of a device, the oldest first."""
        written = int(self._written[device])
        return np.array(self._values[device, np.arange(max(0, written - self.depth), written) % self.depth])

    def forget(self, device: int) -> None:
        """Begin anew with a device."""
        self._written[device] = 0

    def add(self, device: int, values: Array) -> None:
        """Add values [n, width] of one device."""
        count, written = min(len(values), self.depth), int(self._written[device]) + len(values)
        self._values[device, np.arange(written - count, written) % self.depth] = values[len(values) - count :]
        self._written[device] = written

    def write(self, batch: Ordered, values: Array) -> None:
        """Add the values [n, width] of a batch in its order of devices."""
        if self.depth:
            whose, counts = batch.devices[batch.starts], batch.ends - batch.starts
            kept = batch.rank >= np.repeat(counts, counts) - self.depth
            devices = batch.devices[kept]
            self._values[devices, (self._written[devices] + batch.rank[kept]) % self.depth] = values[kept]
            self._written[whose] += counts

    def memory(self) -> Memory:
        """Return the state."""
        return {"values": self._values, "written": self._written}

    def restore(self, memory: Memory) -> None:
        """Take over a state."""
        self._values, self._written = np.array(memory["values"]), np.array(memory["written"])
