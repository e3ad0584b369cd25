"""Faults of pumps: their kinds, and when each pump has which."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vedette.data.simulate.pump import FEATURES
from vedette.seeds import stream

__all__ = ["FAULTS", "LEVELS", "NORMAL", "Fault", "schedule"]

FAULTS = ("cavitation", "drift", "leak", "spike", "stuck")
LEVELS = tuple(sorted((*FAULTS, "normal")))
NORMAL = LEVELS.index("normal")

_FROZEN = (0, 1, 5, 6)  # sensors that can stick: the others hardly move in an hour, so nobody could tell
_SHARES = (0.17, 0.29, 0.19, 0.07, 0.28)  # of the faulty rows, in the order of FAULTS
_UNSEEN = 1.16  # rows with a fault at work for each labelled one: stuck sensors and drifts are hidden for a while
_CYCLE = 5.5 * 3600  # seconds of faults after which each kind has come once


class Fault(NamedTuple):
    """One fault: rows [start, stop), the sensor it sits in (sensor faults), its strength in [0, 1] and its sign."""

    kind: str
    start: int
    stop: int
    sensor: int
    strength: float
    sign: float


def schedule(node: str, seed: int, rows: int, interval: float, share: float) -> list[Fault]:
    """Spread faults over about a `share` of the rows: cycles in which every kind comes once (spikes several times), never two at a time."""
    faults: list[Fault] = []
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
            faults.append(Fault(kind, start, start + length, sensor, rng.random(), 2.0 * rng.integers(2) - 1))
            start += length
    return faults
