"""Recordings of devices at work: demand and weather around them, faults in them, noise in the sensors, clocks and radios that fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from vedette.data.simulate.device import DEVICES, Device
from vedette.data.simulate.faults import Fault, parts_of, schedule
from vedette.data.simulate.nuisances import Nuisances, Surroundings
from vedette.data.table import Coded, Table
from vedette.errors import DataUnusable
from vedette.message import Array
from vedette.seeds import stream

__all__ = ["Part", "Plan", "Recording", "scan", "simulate_device", "stream_device"]

Part: TypeAlias = Literal["train", "test"]

_BLOCK = 1024
_DAY = 86_400.0
_NOTICEABLE = 4.0  # noise deviations


@dataclass(frozen=True)
class Plan:
    """What is recorded.

    Parameters
    ----------
    hours
        How long, from midnight on.
    interval
        Seconds between two rows.
    fault_share
        About the share of rows that are labelled, 0 to 0.5.
    part
        ``"train"`` has seen a part of the loads only, ``"test"`` sees more of them.
    faults
        Kinds of fault; the usual ones of the device if empty.
    severity
        Range of the strengths of faults, in [0, 1].
    nuisances
        What goes wrong without being an anomaly.
    """

    hours: float
    interval: float = 60.0
    fault_share: float = 0.0
    part: Part = "test"
    faults: tuple[str, ...] = ()
    severity: tuple[float, float] = (0.0, 1.0)
    nuisances: Nuisances = field(default_factory=Nuisances)

    @property
    def rows(self) -> int:
        """How many rows it has before any is lost."""
        return int(self.hours * 3600 / self.interval + 1e-6)


class Block(NamedTuple):
    """Some rows of a recording: readings [rows, features], codes of their kinds, times, and which were not lost."""

    readings: Array
    codes: Array
    time: Array
    kept: Array


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
    """A device at work: block after block of rows, with what must be carried from one to the next.

    Parameters
    ----------
    kind
        Type of the device.
    node
        Its name; with the seed it decides all about it, whatever other devices there are.
    seed
        Root of the seed tree.
    plan
        What is recorded.
    """

    def __init__(self, kind: type[Device], node: str, seed: int, plan: Plan) -> None:
        self.place = (seed, kind.type, node, plan.part)
        self.device = kind.of(node, seed)
        self.weather = self.device.train if plan.part == "train" else self.device.test
        kinds = parts_of(kind, plan.faults)
        self.levels = tuple(sorted((*kinds, "normal")))
        self.normal = self.levels.index("normal")
        self.faults = schedule(kind, node, seed, plan.rows, plan.interval, plan.fault_share, kinds, plan.severity)
        self.surroundings = Surroundings(plan.nuisances, self.place, plan.rows, plan.interval)
        self.interval = plan.interval
        self.decay = np.exp(-plan.interval / kind.memory)
        self.wander = kind.deviation * stream(*self.place, "start").standard_normal(len(kind.memory))
        self.starts = np.array([fault.start for fault in self.faults], dtype=int)
        self.stops = np.array([fault.stop for fault in self.faults], dtype=int)
        self.codes = np.array([*(self.levels.index(fault.kind) for fault in self.faults), self.normal])  # the last: none has begun
        self.lagging: Array | None = None
        self.before = np.zeros(len(kind.features))

    def block(self, number: int) -> Block:
        """Return the next block."""
        device, first = self.device, number * _BLOCK
        drives, lagged, cooling = len(device.memory), list(device.lagged), np.exp(-self.interval / device.lag)
        noise = stream(*self.place, "block", number).standard_normal((_BLOCK, drives + len(device.features) + 1))
        time = self.interval * np.arange(first, first + _BLOCK)
        load, air, wander = self._drive(time, noise[:, :drives])
        damage = self._damage(first, noise[:, -1])
        none = dict.fromkeys(damage, np.zeros(_BLOCK))
        well = device.show(load, air, wander, none)
        sick = device.show(load, air, wander, damage) if any(each.any() for each in damage.values()) else well.copy()
        aim = np.concatenate([well[:, lagged], sick[:, lagged]], axis=1)
        warmth = scan((1 - cooling) * aim, cooling, aim[0] if self.lagging is None else self.lagging)
        well[:, lagged], sick[:, lagged] = np.split(warmth, 2, axis=1)
        self.lagging = warmth[-1]
        shown = device.noise * noise[:, drives:-1]
        readings, codes = self._sense(number, well + device.offset, sick + device.offset, shown)
        return Block(*self.surroundings.met(number, first, readings, codes, time))

    def _drive(self, time: Array, noise: Array) -> tuple[Array, Array, Array]:
        """Return the load [block], the air temperature [block] and what else changes around a device of its type [block, n]."""
        wander = scan(self.device.deviation * np.sqrt(1 - self.decay**2) * noise, self.decay, self.wander)
        self.wander = wander[-1]
        day = 2 * np.pi * (time - self.device.shift) / _DAY
        demand = 0.5 - 0.38 * np.cos(day) - 0.12 * np.cos(2 * day - 0.6)  # low at night, a shoulder in the evening
        low, high, mean = self.weather
        rush, warmer = self.surroundings.around(time)
        load = np.clip((low + (high - low) * demand + wander[:, 0] + wander[:, 1]) * rush, 0.15, 1.05)
        air = mean - 2.5 * np.cos(2 * np.pi * (time / _DAY - 3 / 24)) + wander[:, 2] + warmer
        return load, air, wander[:, 3:]

    def _acting(self, first: int) -> Iterator[tuple[Fault, slice]]:
        """Yield the faults that touch the block, and which of its rows."""
        for fault in self.faults[np.searchsorted(self.stops, first, "right") : np.searchsorted(self.starts, first + _BLOCK)]:
            yield fault, slice(max(fault.start - first, 0), min(fault.stop - first, _BLOCK))

    def _damage(self, first: int, noise: Array) -> dict[str, Array]:
        """Return how large the damage of each kind is, [block] each."""
        damage = {kind: np.zeros(_BLOCK) for kind in self.device.extents}
        for fault, rows in self._acting(first):
            if fault.kind in damage:
                damage[fault.kind][rows] = self.device.extent(fault.kind, fault.strength, noise[rows])
        return damage

    def _sense(self, number: int, well: Array, sick: Array, noise: Array) -> tuple[Array, Array]:
        """Return readings and codes of their kinds, given what a healthy and the real device would show without noise."""
        first, readings = number * _BLOCK, sick + noise
        for fault, rows in self._acting(first):
            one, long = fault.sensor, fault.stop - fault.start
            if fault.kind == "stuck":
                sick[rows, one] = readings[rows, one] = readings[rows.start - 1, one] if rows.start else self.before[one]
            elif fault.kind in ("drift", "spike", "bias"):
                age = (np.arange(first + rows.start, first + rows.stop) - fault.start + 1) / long
                away = (1 + 1.5 * fault.strength) * fault.sign * self.device.swing[one] * (age if fault.kind == "drift" else 1)
                sick[rows, one] += away
                readings[rows, one] += away
            elif fault.kind == "noise":
                trembling = stream(*self.place, "trembling", number).standard_normal(_BLOCK)[rows]
                trembling *= (6 + 14 * fault.strength) * self.device.noise[one]
                sick[rows, one] += trembling
                readings[rows, one] += trembling
        for signals in (well, sick, readings):
            np.maximum(signals, self.device.least, out=signals)
        self.before = readings[-1]
        begun = np.searchsorted(self.starts, np.arange(first, first + _BLOCK), "right") - 1
        wrong = (np.abs(sick - well) > _NOTICEABLE * self.device.noise).any(axis=1)
        return readings, np.where(wrong, self.codes[begun], self.normal)


def stream_device(device: str, node: str, seed: int, plan: Plan, size: int = 65_536) -> Iterator[Table]:
    """Yield the telemetry of one device, `size` rows at a time; the rows are the same for every `size`.

    A row is labelled when at least one sensor, its noise set aside, is away from what it would show on the same device without
    any fault by more than four standard deviations of its noise; its kind is the fault that began last. So a stuck sensor is
    normal while it shows about the right value, a drift until it can be told from noise, and the temperature left behind by a
    leak or cavitation still belongs to it until the device is as warm as it should be.

    Parameters
    ----------
    device
        Type, one of `DEVICES`.
    node
        Its name.
    seed
        Root of the seed tree.
    plan
        What is recorded.
    size
        Rows in a table before any is lost; the last may be shorter.

    Raises
    ------
    UnknownName
        No such type of device.
    DataUnusable
        Less than one row, a share outside [0, 0.5], or a fault that such a device cannot have.
    """
    kind = DEVICES[device]
    if plan.rows < 1 or size < 1 or not 0 <= plan.fault_share <= 0.5:
        raise DataUnusable(f"cannot simulate {plan.rows} rows, {size} at a time, with a share of {plan.fault_share} of faults (0 to 0.5)")
    recording = Recording(kind, node, seed, plan)
    done = 0
    for block in _cut(recording, plan.rows, size):
        kept = np.flatnonzero(block.kept)
        codes = block.codes[kept].astype(np.int32)
        yield Table(
            features=kind.features,
            numbers=block.readings[kept].astype(np.float32),
            label=(codes != recording.normal).astype(np.int8),
            kind=Coded(codes, recording.levels),
            group=Coded(np.zeros(len(kept), dtype=np.int32), (node,)),
            time=block.time[kept].astype(np.float64),
            place=None if len(kept) == len(block.kept) else done + kept,
        )
        done += len(block.kept)


def _cut(recording: Recording, rows: int, size: int) -> Iterator[Block]:
    """Yield the first `rows` rows of a recording, `size` at a time."""
    parts: list[Block] = []
    done = 0
    for first in range(0, rows, _BLOCK):
        block = recording.block(first // _BLOCK)
        while done < min(first + _BLOCK, rows):
            stop = min(first + _BLOCK, rows, (done // size + 1) * size)
            parts.append(Block(*(column[done - first : stop - first] for column in block)))
            done = stop
            if done % size == 0 or done == rows:
                yield Block(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
                parts = []


def simulate_device(device: str, node: str, seed: int, plan: Plan) -> Table:
    """Return the telemetry of one device in one table (see `stream_device`)."""
    return next(stream_device(device, node, seed, plan, size=max(plan.rows, 1)))
