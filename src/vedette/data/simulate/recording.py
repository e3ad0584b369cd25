"""Recordings of pumps at work: demand and weather around them, faults in them, noise in the sensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np

from vedette.data.simulate.faults import LEVELS, NORMAL, Fault, schedule
from vedette.data.simulate.pump import FEATURES, Pump
from vedette.data.table import Coded, Table
from vedette.errors import DataUnusable
from vedette.message import Array
from vedette.seeds import stream

__all__ = ["Part", "Recording", "scan", "simulate_pump", "stream_pump"]

Part: TypeAlias = Literal["train", "test"]

_BLOCK = 1024
_DAY = 86_400.0
_TEMPERATURE = 2
_LEAST = np.array([0, 0, -np.inf, 0, 0, 0, 0])  # gauges end at zero, thermometers do not
_NOTICEABLE = 4.0  # noise deviations


def scan(x: Array, decay: Array | float, before: Array) -> Array:
    """Return y with y[t] = decay y[t-1] + x[t], y[-1] = before, in log2(rows) sweeps."""
    y = x.copy()
    y[0] += decay * before
    step = 1
    while step < len(y):
        y[step:] += decay**step * y[:-step]
        step *= 2
    return y


class Recording:
    """A pump at work: block after block of rows, with what must be carried from one to the next."""

    # Slow change of demand, fast change of demand, air temperature, suction pressure, resistance of the system.
    deviation = np.array([0.08, 0.03, 0.7, 0.015, 0.015])
    memory = np.array([3600.0, 300.0, 4 * 3600.0, 2 * 3600.0, 6 * 3600.0])

    def __init__(self, node: str, seed: int, part: Part, rows: int, interval: float, share: float) -> None:
        self.place = (seed, "pump", node, part)
        self.pump = Pump.of(node, seed)
        self.weather = self.pump.train if part == "train" else self.pump.test
        self.faults = schedule(node, seed, rows, interval, share)
        self.interval = interval
        self.decay = np.exp(-interval / self.memory)
        self.wander = self.deviation * stream(*self.place, "start").standard_normal(len(self.memory))
        self.starts = np.array([fault.start for fault in self.faults], dtype=int)
        self.stops = np.array([fault.stop for fault in self.faults], dtype=int)
        self.codes = np.array([*(LEVELS.index(fault.kind) for fault in self.faults), NORMAL])  # the last: none has begun
        self.warmth: Array | None = None
        self.before = np.zeros(len(FEATURES))

    def block(self, number: int) -> tuple[Array, Array]:
        """Return the readings [block, features] and the kinds [block] of the next block."""
        first, cooling = number * _BLOCK, np.exp(-self.interval / self.pump.lag)
        noise = stream(*self.place, "block", number).standard_normal((_BLOCK, len(self.memory) + len(FEATURES) + 1))
        load, outside = self._drive(self.interval * np.arange(first, first + _BLOCK), noise[:, : len(self.memory)])
        leak, cavitation = self._damage(first, noise[:, -1])
        none = np.zeros(_BLOCK)
        well = self.pump.work(load, outside, none, none)
        sick = self.pump.work(load, outside, leak, cavitation) if leak.any() or cavitation.any() else well.copy()
        aim = np.stack([well[:, _TEMPERATURE], sick[:, _TEMPERATURE]], axis=1)
        warmth = scan((1 - cooling) * aim, cooling, aim[0] if self.warmth is None else self.warmth)
        well[:, _TEMPERATURE], sick[:, _TEMPERATURE] = warmth.T
        self.warmth = warmth[-1]
        return self._sense(first, well + self.pump.offset, sick + self.pump.offset, self.pump.noise * noise[:, len(self.memory) : -1])

    def _drive(self, time: Array, noise: Array) -> tuple[Array, Array]:
        """Return the load [block] and what is outside [block, 3]."""
        wander = scan(self.deviation * np.sqrt(1 - self.decay**2) * noise, self.decay, self.wander)
        self.wander = wander[-1]
        day = 2 * np.pi * (time - self.pump.shift) / _DAY
        demand = 0.5 - 0.38 * np.cos(day) - 0.12 * np.cos(2 * day - 0.6)  # low at night, a shoulder in the evening
        low, high, mean = self.weather
        load = np.clip(low + (high - low) * demand + wander[:, 0] + wander[:, 1], 0.15, 1.05)
        air = mean - 2.5 * np.cos(2 * np.pi * (time / _DAY - 3 / 24)) + wander[:, 2]
        return load, np.stack([air, wander[:, 3], np.exp(wander[:, 4])], axis=1)

    def _acting(self, first: int) -> Iterator[tuple[Fault, slice]]:
        """Yield the faults that touch the block, and which of its rows."""
        for fault in self.faults[np.searchsorted(self.stops, first, "right") : np.searchsorted(self.starts, first + _BLOCK)]:
            yield fault, slice(max(fault.start - first, 0), min(fault.stop - first, _BLOCK))

    def _damage(self, first: int, noise: Array) -> tuple[Array, Array]:
        """Return the area of a leak and the head lost by cavitation, [block] each."""
        leak, cavitation = np.zeros(_BLOCK), np.zeros(_BLOCK)
        for fault, rows in self._acting(first):
            if fault.kind == "leak":
                leak[rows] = 0.1 + 0.15 * fault.strength
            elif fault.kind == "cavitation":
                cavitation[rows] = (0.03 + 0.07 * fault.strength) * np.maximum(1 + 0.4 * noise[rows], 0.4)
        return leak, cavitation

    def _sense(self, first: int, well: Array, sick: Array, noise: Array) -> tuple[Array, Array]:
        """Return readings and codes of their kinds, given what a healthy and the real pump would show without noise."""
        readings = sick + noise
        for fault, rows in self._acting(first):
            one = fault.sensor
            if fault.kind == "stuck":
                sick[rows, one] = readings[rows, one] = readings[rows.start - 1, one] if rows.start else self.before[one]
            elif fault.kind in ("drift", "spike"):
                age = (np.arange(first + rows.start, first + rows.stop) - fault.start + 1) / (fault.stop - fault.start)
                away = (1 + 1.5 * fault.strength) * fault.sign * self.pump.swing[one] * (age if fault.kind == "drift" else 1)
                sick[rows, one] += away
                readings[rows, one] += away
        for signals in (well, sick, readings):
            np.maximum(signals, _LEAST, out=signals)
        self.before = readings[-1]
        begun = np.searchsorted(self.starts, np.arange(first, first + _BLOCK), "right") - 1
        wrong = (np.abs(sick - well) > _NOTICEABLE * self.pump.noise).any(axis=1)
        return readings, np.where(wrong, self.codes[begun], NORMAL)


def stream_pump(
    node: str, seed: int, hours: float, interval: float = 60.0, fault_share: float = 0.0, part: Part = "test", size: int = 65_536
) -> Iterator[Table]:
    """Yield the telemetry of one pump, `size` rows at a time; the rows are the same for every `size`.

    A row is labelled when at least one sensor, its noise set aside, is away from what it would show on the same pump without
    any fault by more than four standard deviations of its noise; its kind is the fault that began last. So a stuck sensor is
    normal while it shows about the right value, a drift until it can be told from noise, and the temperature left behind by a
    leak or cavitation still belongs to it until the pump is as warm as it should be.

    Parameters
    ----------
    node
        Name of the device; with the seed it decides all about it, whatever other devices there are.
    seed
        Root of the seed tree.
    hours
        How long to record, from midnight on.
    interval
        Seconds between two rows.
    fault_share
        About the share of rows that are labelled.
    part
        ``"train"`` has seen a part of the loads only, ``"test"`` sees more of them.
    size
        Rows in a table; the last may be shorter.

    Raises
    ------
    DataUnusable
        Less than one row, or a share outside [0, 0.5].
    """
    rows = _rows(hours, interval)
    if rows < 1 or size < 1 or not 0 <= fault_share <= 0.5:
        raise DataUnusable(f"cannot simulate {rows} rows, {size} at a time, with a share of {fault_share} of faults (0 to 0.5)")
    recording = Recording(node, seed, part, rows, interval, fault_share)
    for first, readings, codes in _cut(recording, rows, size):
        yield Table(
            features=FEATURES,
            numbers=readings.astype(np.float32),
            label=(codes != NORMAL).astype(np.int8),
            kind=Coded(codes.astype(np.int32), LEVELS),
            group=Coded(np.zeros(len(codes), dtype=np.int32), (node,)),
            time=interval * np.arange(first, first + len(codes), dtype=np.float64),
        )


def _rows(hours: float, interval: float) -> int:
    return int(hours * 3600 / interval + 1e-6)


def _cut(recording: Recording, rows: int, size: int) -> Iterator[tuple[int, Array, Array]]:
    """Yield the first `rows` rows of a recording, `size` at a time: number of the first one, readings, codes of the kinds."""
    parts: list[tuple[Array, Array]] = []
    done = 0
    for first in range(0, rows, _BLOCK):
        readings, codes = recording.block(first // _BLOCK)
        while done < min(first + _BLOCK, rows):
            stop = min(first + _BLOCK, rows, (done // size + 1) * size)
            parts.append((readings[done - first : stop - first], codes[done - first : stop - first]))
            done = stop
            if done % size == 0 or done == rows:
                whole = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
                yield (done - 1) // size * size, whole[0], whole[1]
                parts = []


def simulate_pump(node: str, seed: int, hours: float, interval: float = 60.0, fault_share: float = 0.0, part: Part = "test") -> Table:
    """Return the telemetry of one pump in one table (see `stream_pump`)."""
    return next(stream_pump(node, seed, hours, interval, fault_share, part, size=max(_rows(hours, interval), 1)))
