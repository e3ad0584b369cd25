"""Faults of devices: their kinds, and when each device has which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vedette.data.simulate.device import Device
from vedette.errors import DataUnusable
from vedette.seeds import stream

__all__ = ["EVERYWHERE", "FAULTS", "Fault", "parts_of", "schedule"]

FAULTS = {
    "spike": "a sensor jumps away for one to four rows",
    "stuck": "a sensor keeps showing its last value",
    "drift": "a sensor moves away in a straight line",
    "bias": "a sensor is off by a constant from one row to the next",
    "noise": "a sensor trembles much more than usual",
    "leak": "something gets out before it is measured: water, air, heat, data",
    "cavitation": "a pump is starved at its inlet: bubbles shake it and take head",
    "wear": "a part is worn: a bearing runs hot and shakes, a stem sticks, a heater is weak",
    "overload": "more is asked than the device shows as its load: a motor drags, a gateway is flooded",
    "scan": "someone tries many doors: many peers, many refused connections",
}
"""Every kind of fault, and what it is."""
EVERYWHERE = ("spike", "stuck", "drift", "bias", "noise")
"""Faults of sensors, which any device can have."""

_CYCLE = 5.5 * 3600  # seconds of faults after which each kind has come once


_PART = 0.15  # of the faulty rows, for sensor faults that are not among the usual ones of a device


class Fault(NamedTuple):
    """One fault: rows [start, stop), the sensor it sits in (sensor faults), its strength in [0, 1] and its sign."""

    kind: str
    start: int
    stop: int
    sensor: int
    strength: float
    sign: float


def parts_of(device: type[Device], names: Sequence[str]) -> Mapping[str, float]:
    """Return kinds of fault with their parts of the faulty rows: those named, or the usual ones of the device.

    Raises
    ------
    DataUnusable
        A device of this type cannot have such a fault.
    """
    possible = {**dict.fromkeys(EVERYWHERE, _PART), **device.kinds}
    strange = next((name for name in names if name not in possible), None)
    if strange is not None:
        raise DataUnusable(f"a {device.type} has no fault '{strange}'; it can have: {', '.join(sorted(possible))}")
    return {name: possible[name] for name in names} if names else device.kinds


def schedule(
    device: type[Device],
    node: str,
    seed: int,
    rows: int,
    interval: float,
    share: float,
    kinds: Mapping[str, float] | None = None,
    severity: tuple[float, float] = (0.0, 1.0),
) -> list[Fault]:
    """Spread faults over about a `share` of the rows: cycles in which every kind comes once (spikes several times), never two at a time.

    Parameters
    ----------
    device, node, seed
        Whose.
    rows, interval
        Length of the recording, and seconds between two rows.
    share
        About how many of the rows shall be labelled.
    kinds
        Kinds of fault with their parts of the faulty rows; those of the device if None.
    severity
        Range of the strengths.
    """
    kinds = device.kinds if kinds is None else kinds
    names, weights = tuple(kinds), np.array(list(kinds.values()))
    low, high = severity
    faults: list[Fault] = []
    share *= device.hidden
    cycles = max(1, round(rows * interval * share / _CYCLE))
    edges = np.linspace(0, rows, cycles + 1).astype(int)
    for cycle, (first, last) in enumerate(pairwise(edges) if share > 0 and names else ()):
        rng = stream(seed, device.type, node, "faults", cycle)
        parts = weights * rng.uniform(0.8, 1.2, len(names))
        lengths = np.rint(share * (last - first) * parts / parts.sum()).astype(int)
        events = [(kind, int(length)) for kind, length in zip(names, lengths, strict=True) if kind != "spike" and length]
        spiky = int(lengths[names.index("spike")]) if "spike" in names else 0
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
            sensor = device.frozen[rng.integers(len(device.frozen))] if kind == "stuck" else int(rng.integers(len(device.features)))
            strength = low + (high - low) * rng.random()
            faults.append(Fault(kind, start, start + length, sensor, strength, 2.0 * rng.integers(2) - 1))
            start += length
    return faults
