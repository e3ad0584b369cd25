"""A simulated fleet of pumps: telemetry with labelled faults, nothing to download, one node at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from vedette.data.dataset import Dataset, Loader
from vedette.data.table import Coded, Feature, Table, concat
from vedette.errors import DataUnusable, UnknownName
from vedette.message import Array
from vedette.seeds import stream

__all__ = ["FAULTS", "FEATURES", "Pump", "Pumps", "simulate_pump", "stream_pump"]

Part: TypeAlias = Literal["train", "test"]

FEATURES = (
    Feature("load", unit="%"),
    Feature("current", unit="A"),
    Feature("temperature", unit="°C"),
    Feature("vibration", unit="mm/s"),
    Feature("inlet_pressure", unit="bar"),
    Feature("outlet_pressure", unit="bar"),
    Feature("flow", unit="m³/h"),
)
FAULTS = ("cavitation", "drift", "leak", "spike", "stuck")

_LEVELS = ("cavitation", "drift", "leak", "normal", "spike", "stuck")
_NORMAL = _LEVELS.index("normal")
_TEMPERATURE = 2
_LEAST = np.array([0, 0, -np.inf, 0, 0, 0, 0])  # gauges end at zero, thermometers do not
_FROZEN = (0, 1, 5, 6)  # sensors that can stick: the others hardly move in an hour, so nobody could tell
_SHARES = (0.17, 0.29, 0.19, 0.07, 0.28)  # of the faulty rows, in the order of FAULTS
_UNSEEN = 1.16  # rows with a fault at work for each labelled one: stuck sensors and drifts are hidden for a while
_CYCLE = 5.5 * 3600  # seconds of faults after which each kind has come once
_NOTICEABLE = 4.0  # noise deviations
_BLOCK = 1024
_MOST_ROWS = 1e8
_DAY = 86_400.0
_BAR_PER_METRE = 0.0981


class _Weather(NamedTuple):
    """What drives a pump from outside in one part: the range of its load [low, high] and the mean air temperature (°C)."""

    low: float
    high: float
    air: float


@dataclass(frozen=True, eq=False)
class Pump:
    """One device: its size, curves, motor, sensors and the demand on it.

    Parameters
    ----------
    flow, head
        At the best efficiency point: m³/h and metres.
    efficiency
        Of the pump at its best point.
    static
        Share of the head that does not depend on flow (system curve).
    idle
        Magnetising current as a share of the rated current.
    heating
        Rise of the temperature at rated power, K.
    lag
        Thermal time constant, seconds.
    shake
        Vibration at rated speed and best point, mm/s RMS.
    supply
        Pressure on the suction side, bar.
    shift
        How much later than usual the day begins here, seconds.
    noise, offset
        [features] deviation of the sensors' noise and their constant errors, in the features' units.
    swing
        [features] how far the signals move in normal work, the measure of sensor faults.
    train, test
        Load range and air temperature in the two parts; the training part has seen less.
    """

    flow: float
    head: float
    efficiency: float
    static: float
    idle: float
    heating: float
    lag: float
    shake: float
    supply: float
    shift: float
    noise: Array
    offset: Array
    swing: Array
    train: _Weather
    test: _Weather

    @classmethod
    def of(cls, node: str, seed: int) -> Pump:
        """Draw the device that has this name; it depends on the name and the seed alone."""
        rng = stream(seed, "pump", node, "device")
        flow, head, efficiency = 50 * rng.uniform(0.97, 1.03), 40 * rng.uniform(0.98, 1.02), rng.uniform(0.72, 0.74)
        amperes = _power(flow, head, efficiency) / _POWER_PER_AMPERE
        swing = np.array([17.0, 0.13 * amperes, 8.0, 0.15, 0.06, 0.1 * head * _BAR_PER_METRE, 0.1 * flow])
        width = rng.uniform(0.2, 0.35)
        low = rng.uniform(0.25, 0.95 - width)
        air = rng.uniform(16, 24)
        more_low, more_high, warmer = rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.9), rng.uniform(-3, 3)
        return cls(
            flow,
            head,
            efficiency,
            static=rng.uniform(0.28, 0.32),
            idle=rng.uniform(0.30, 0.34),
            heating=rng.uniform(32, 38),
            lag=rng.uniform(1200, 2700),
            shake=rng.uniform(1.8, 2.0),
            supply=rng.uniform(1.49, 1.53),
            shift=3600 * rng.uniform(-3, 3),
            noise=swing * np.array([0.05, 0.06, 0.05, 0.1, 0.1, 0.06, 0.06]),
            offset=swing * 0.05 * rng.standard_normal(len(swing)),
            swing=swing,
            train=_Weather(low, low + width, air),
            test=_Weather(low - more_low * (low - 0.22), low + width + more_high * (0.98 - low - width), air + warmer),
        )

    def work(self, load: Array, outside: Array, leak: Array, cavitation: Array) -> Array:
        """Say what ideal sensors would show; the temperature is the one reached if the load stayed.

        Parameters
        ----------
        load
            [rows] share of the rated load.
        outside
            [rows, 3] air temperature (°C), change of the suction pressure (bar), relative resistance of the system.
        leak
            [rows] area of a leak before the flow meter, relative to the opening of the system.
        cavitation
            [rows] share of the head lost; beyond 0 also the suction is throttled.

        Returns
        -------
        Array
            [rows, features].
        """
        air, supply, resistance = outside.T
        speed = 0.6 + 0.4 * load
        # Pump: head = 1.25 speed² - 0.25 flow² (affinity laws); system: head = static + slope flow²; both relative to the best point.
        top, slope = 1.25 * speed**2 * (1 - cavitation), (1 - self.static) * resistance
        metered = np.sqrt(np.maximum((top - self.static) / (0.25 + slope), 0.01))
        if leak.any():
            metered = _metered(metered, top, self.static, slope, leak)
        head = self.static + slope * metered**2
        pumped = metered + leak * np.sqrt(head)
        off = pumped / speed - 1
        efficiency = self.efficiency * (1 - 0.9 * off**2) * (1 - 0.5 * cavitation)
        power = _power(self.flow * pumped, self.head * head, efficiency)
        rated = _power(self.flow, self.head, self.efficiency)
        current = np.hypot(self.idle * rated, power) / _POWER_PER_AMPERE
        temperature = air + self.heating * (0.2 * speed + 0.8 * (power / rated) ** 1.5)
        vibration = self.shake * (0.3 + 0.7 * speed**2) * (1 + 3 * off**2) * (1 + 6 * cavitation)
        inlet = self.supply + supply - 0.35 * pumped**2 * (1 + 8 * cavitation)
        outlet = inlet + self.head * head * _BAR_PER_METRE
        return np.stack([100 * load, current, temperature, vibration, inlet, outlet, self.flow * metered], axis=1)


_POWER_PER_AMPERE = 3**0.5 * 400 * 0.85 * 0.9  # W: three phases of 400 V, power factor, efficiency of the motor


def _power(flow: Array | float, head: Array | float, efficiency: Array | float) -> Array | float:
    """Shaft power in W of a flow (m³/h) of water lifted by a head (m)."""
    return 9810 * flow * head / (3600 * efficiency)


def _metered(start: Array, top: Array, static: float, slope: Array, leak: Array) -> Array:
    """Solve pump curve = system curve where a part of the flow leaves before the meter.

    The difference of the curves is concave and falls with the flow, so Newton's steps come down from `start` and never overshoot.
    """
    flow = start
    for _ in range(4):
        head = static + slope * flow**2
        pumped = flow + leak * np.sqrt(head)
        slant = 2 * slope * flow
        surplus = top - 0.25 * pumped**2 - head
        flow = flow + surplus / (0.5 * pumped * (1 + leak * slant / (2 * np.sqrt(head))) + slant)
    return flow


class _Fault(NamedTuple):
    """One fault: rows [start, stop), the sensor it sits in (sensor faults), its strength in [0, 1] and its sign."""

    kind: str
    start: int
    stop: int
    sensor: int
    strength: float
    sign: float


def _schedule(node: str, seed: int, rows: int, interval: float, share: float) -> list[_Fault]:
    """Spread faults over about a `share` of the rows: cycles in which every kind comes once (spikes several times), never two at a time."""
    faults: list[_Fault] = []
    share *= _UNSEEN
    cycles = max(1, round(rows * interval * share / _CYCLE))
    edges = np.linspace(0, rows, cycles + 1).astype(int)
    for cycle, (first, last) in enumerate(pairwise(edges) if share > 0 else ()):
        rng = stream(seed, "pump", node, "faults", cycle)
        parts = np.array(_SHARES) * rng.uniform(0.8, 1.2, len(FAULTS))
        lengths = np.rint(share * (last - first) * parts / parts.sum()).astype(int)
        events = [(kind, int(length)) for kind, length in zip(FAULTS, lengths, strict=True) if kind != "spike" and length]
        spiky = int(lengths[FAULTS.index("spike")])
        while spiky > 0:
            events.append(("spike", min(spiky, int(rng.integers(1, 5)))))
            spiky -= events[-1][1]
        room = last - first - sum(length for _, length in events) - len(events) - 1
        if room < 0:
            continue
        gaps = 1 + np.floor(room * rng.dirichlet(np.full(len(events) + 1, 2.0))).astype(int)
        start = int(first)
        for at, gap in zip(rng.permutation(len(events)), gaps, strict=False):
            kind, length = events[at]
            start += int(gap)
            sensor = _FROZEN[rng.integers(len(_FROZEN))] if kind == "stuck" else int(rng.integers(len(FEATURES)))
            faults.append(_Fault(kind, start, start + length, sensor, rng.random(), 2.0 * rng.integers(2) - 1))
            start += length
    return faults


def _scan(x: Array, decay: Array | float, before: Array) -> Array:
    """Return y with y[t] = decay y[t-1] + x[t], y[-1] = before, in log2(rows) sweeps."""
    y = x.copy()
    y[0] += decay * before
    step = 1
    while step < len(y):
        y[step:] += decay**step * y[:-step]
        step *= 2
    return y


class _Recording:
    """A pump at work: block after block of rows, with what must be carried from one to the next."""

    # Slow change of demand, fast change of demand, air temperature, suction pressure, resistance of the system.
    deviation = np.array([0.08, 0.03, 0.7, 0.015, 0.015])
    memory = np.array([3600.0, 300.0, 4 * 3600.0, 2 * 3600.0, 6 * 3600.0])

    def __init__(self, node: str, seed: int, part: Part, rows: int, interval: float, share: float) -> None:
        self.place = (seed, "pump", node, part)
        self.pump = Pump.of(node, seed)
        self.weather = self.pump.train if part == "train" else self.pump.test
        self.faults = _schedule(node, seed, rows, interval, share)
        self.interval = interval
        self.decay = np.exp(-interval / self.memory)
        self.wander = self.deviation * stream(*self.place, "start").standard_normal(len(self.memory))
        self.starts = np.array([fault.start for fault in self.faults], dtype=int)
        self.stops = np.array([fault.stop for fault in self.faults], dtype=int)
        self.codes = np.array([*(_LEVELS.index(fault.kind) for fault in self.faults), _NORMAL])  # the last: none has begun
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
        warmth = _scan((1 - cooling) * aim, cooling, aim[0] if self.warmth is None else self.warmth)
        well[:, _TEMPERATURE], sick[:, _TEMPERATURE] = warmth.T
        self.warmth = warmth[-1]
        return self._sense(first, well + self.pump.offset, sick + self.pump.offset, self.pump.noise * noise[:, len(self.memory) : -1])

    def _drive(self, time: Array, noise: Array) -> tuple[Array, Array]:
        """Return the load [block] and what is outside [block, 3]."""
        wander = _scan(self.deviation * np.sqrt(1 - self.decay**2) * noise, self.decay, self.wander)
        self.wander = wander[-1]
        day = 2 * np.pi * (time - self.pump.shift) / _DAY
        demand = 0.5 - 0.38 * np.cos(day) - 0.12 * np.cos(2 * day - 0.6)  # low at night, a shoulder in the evening
        low, high, mean = self.weather
        load = np.clip(low + (high - low) * demand + wander[:, 0] + wander[:, 1], 0.15, 1.05)
        air = mean - 2.5 * np.cos(2 * np.pi * (time / _DAY - 3 / 24)) + wander[:, 2]
        return load, np.stack([air, wander[:, 3], np.exp(wander[:, 4])], axis=1)

    def _acting(self, first: int) -> Iterator[tuple[_Fault, slice]]:
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
        return readings, np.where(wrong, self.codes[begun], _NORMAL)


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
    recording = _Recording(node, seed, part, rows, interval, fault_share)
    blocks = (recording.block(number) for number in range(-(-rows // _BLOCK)))
    for start, readings, codes in _cut(blocks, rows, size):
        yield Table(
            features=FEATURES,
            numbers=readings.astype(np.float32),
            label=(codes != _NORMAL).astype(np.int8),
            kind=Coded(codes.astype(np.int32), _LEVELS),
            group=Coded(np.zeros(len(codes), dtype=np.int32), (node,)),
            time=interval * np.arange(start, start + len(codes), dtype=np.float64),
        )


def _rows(hours: float, interval: float) -> int:
    return int(hours * 3600 / interval + 1e-6)


def _cut(blocks: Iterable[tuple[Array, Array]], rows: int, size: int) -> Iterator[tuple[int, Array, Array]]:
    """Turn blocks of one size into pieces of another, `rows` in all; yields the first row, readings and codes."""
    kept: list[tuple[Array, Array]] = []
    done = have = 0
    for block in blocks:
        kept.append(block)
        have = min(have + _BLOCK, rows)
        if have - done < size and have < rows:
            continue
        readings, codes = (np.concatenate(columns) for columns in zip(*kept, strict=True))
        begin, end = done, have if have == rows else have - (have - done) % size
        for done in range(begin, end, size):
            yield done, readings[done - begin : min(done + size, end) - begin], codes[done - begin : min(done + size, end) - begin]
        done = end
        kept = [(readings[end - begin :], codes[end - begin :])]


def simulate_pump(node: str, seed: int, hours: float, interval: float = 60.0, fault_share: float = 0.0, part: Part = "test") -> Table:
    """Return the telemetry of one pump in one table (see `stream_pump`)."""
    return next(stream_pump(node, seed, hours, interval, fault_share, part, size=max(_rows(hours, interval), 1)))


class Pumps(Loader):
    """A fleet of simulated pumps, each with its own build, site and faults.

    In training a pump sees a part of the loads and of the weather only, in the test more: what one has not met, others have.

    Parameters
    ----------
    nodes
        Pumps in the fleet.
    train_hours, test_hours
        Length of the two parts, each recorded from midnight on.
    interval
        Seconds between two rows.
    fault_share
        About the share of test rows that are labelled; the training part has no faults.
    """

    title: ClassVar[str] = "Simulated pumps: load, motor, bearing and hydraulics, five kinds of faults"
    licence: ClassVar[str] = "none needed, generated"
    source: ClassVar[str] = "Vedette, vedette.data.simulate"
    how: ClassVar[str] = "nothing to get: generated from the seed"

    simulated: ClassVar[bool] = True

    nodes: int = Field(default=6, ge=1, le=1_000_000)
    train_hours: float = Field(default=72.0, gt=0, le=20 * 8766, allow_inf_nan=False)
    test_hours: float = Field(default=48.0, gt=0, le=20 * 8766, allow_inf_nan=False)
    interval: float = Field(default=60.0, ge=0.01, le=3600, allow_inf_nan=False)
    fault_share: float = Field(default=0.1, ge=0, le=0.5, allow_inf_nan=False)

    @model_validator(mode="after")
    def _has_rows(self) -> Self:
        if min(self.train_hours, self.test_hours) * 3600 < self.interval:
            raise ValueError(f"an interval of {self.interval:g} s leaves no row in {min(self.train_hours, self.test_hours):g} hours")
        return self

    def node_names(self) -> Sequence[str]:
        """Return the names of all pumps: ``pump-1``, ``pump-2`` …"""
        return [f"pump-{number}" for number in range(1, self.nodes + 1)]

    def node_table(self, node: str, part: Part, seed: int) -> Table:
        """Return one part of one pump; nothing of the other pumps is made.

        Raises
        ------
        UnknownName
            No pump of the fleet has this name.
        """
        number = node.removeprefix("pump-")
        if not (number.isdecimal() and len(number) < 8 and node == f"pump-{int(number)}" and 1 <= int(number) <= self.nodes):
            raise UnknownName(f"unknown pump '{node}'; known: pump-1 … pump-{self.nodes}")
        if part == "train":
            return simulate_pump(node, seed, self.train_hours, self.interval, part="train")
        return simulate_pump(node, seed, self.test_hours, self.interval, self.fault_share)

    def load(self, root: Path | None, seed: int = 0) -> Dataset:
        """Simulate the fleet; `root` is not looked at.

        Raises
        ------
        DataUnusable
            The tables would not fit in memory: take `node_table`, node by node.
        """
        rows = self.nodes * (self.train_hours + self.test_hours) * 3600 / self.interval
        if rows > _MOST_ROWS:
            raise DataUnusable(f"{rows:.3g} rows of simulated pumps are too many to hold at once; take fewer nodes or hours")
        parts: tuple[Part, ...] = ("train", "test")
        tables: dict[str, Table] = {part: concat([self.node_table(node, part, seed) for node in self.node_names()]) for part in parts}
        return Dataset("pumps", tables, ordered=True)
