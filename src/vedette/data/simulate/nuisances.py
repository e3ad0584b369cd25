"""What goes wrong without being an anomaly: events that all devices meet, clocks, lost readings."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from vedette.message import Array
from vedette.seeds import stream
from vedette.settings import Settings

__all__ = ["EVENTS", "Nuisances", "Surroundings"]

_DAY, _WEEK, _YEAR = 86_400.0, 604_800.0, 365.25 * 86_400
_OUTAGE = 10  # rows lost in one go

EVENTS = {
    "heat wave": "the air is 6 K warmer for 8 to 24 hours",
    "brown-out": "all loads fall to 60 % for 20 to 60 minutes",
    "rush": "all loads are a quarter higher for 2 to 4 hours",
}
"""Events that the whole fleet meets at once, and what they do."""


class Nuisances(Settings):
    """What makes telemetry hard without being a fault; rows it touches stay normal.

    Parameters
    ----------
    missing
        Share of single readings that are missing (NaN).
    lost
        Share of rows that are lost, about ten at a time.
    clock_drift
        Most seconds a day by which a device's clock may run fast or slow.
    clock_jumps
        How often a day a clock is set, forward or back by up to ten minutes.
    events
        Fleet-wide events a week: `EVENTS`, at the same time for all devices.
    weekend
        How much lower loads are on the last two of seven days, as a share.
    season
        Kelvin between the mean temperatures of the year and its hottest day; recordings begin at the mean, in spring.
    """

    missing: float = Field(default=0.0, ge=0, le=0.9)
    lost: float = Field(default=0.0, ge=0, le=0.9)
    clock_drift: float = Field(default=0.0, ge=0, le=3600)
    clock_jumps: float = Field(default=0.0, ge=0, le=100)
    events: float = Field(default=0.0, ge=0, le=50)
    weekend: float = Field(default=0.0, ge=0, lt=1)
    season: float = Field(default=0.0, ge=0, le=40)


class Surroundings:
    """The nuisances of one recording.

    Parameters
    ----------
    nuisances
        The settings.
    place
        Seed, type, node and part of the recording: its place in the seed tree.
    rows, interval
        Its length, and seconds between two rows.
    """

    def __init__(self, nuisances: Nuisances, place: tuple[int, str, str, str], rows: int, interval: float) -> None:
        self.settings, self.place, self.interval = nuisances, place, interval
        seed, _, _, part = place
        days = rows * interval / _DAY
        rng = stream(*place, "clock")
        self.rate = rng.uniform(-1, 1) * nuisances.clock_drift / _DAY
        jumps = rng.poisson(nuisances.clock_jumps * days) if nuisances.clock_jumps else 0
        self.jump_rows = np.sort(rng.integers(0, max(rows, 1), jumps))
        self.jump_sums = np.concatenate([[0.0], np.cumsum(rng.uniform(-600, 600, jumps))])
        self.events = _events(seed, part, nuisances.events, days) if nuisances.events else []

    def around(self, time: Array) -> tuple[Array | float, Array | float]:
        """Return by what the load is multiplied and by how many kelvin the air is warmer, for true times [rows]."""
        settings = self.settings
        if not (settings.weekend or settings.season or self.events):
            return 1.0, 0.0
        load = np.where(time % _WEEK >= 5 * _DAY, 1 - settings.weekend, 1.0)
        warmer = settings.season * np.sin(2 * np.pi * time / _YEAR)
        for name, start, stop in self.events:
            during = (time >= start) & (time < stop)
            if name == "heat wave":
                warmer = warmer + 6.0 * during
            else:
                load = load * np.where(during, 0.6 if name == "brown-out" else 1.25, 1.0)
        return load, warmer

    def met(self, number: int, first: int, readings: Array, codes: Array, time: Array) -> tuple[Array, Array, Array, Array]:
        """Return a block's readings with gaps, its codes, the times its clock shows, and [rows] which were not lost."""
        settings, kept = self.settings, np.ones(len(readings), dtype=bool)
        if settings.missing:
            gaps = stream(*self.place, "missing", number).random(readings.shape) < settings.missing
            readings = np.where(gaps, np.nan, readings)
        if settings.lost:
            outages = np.repeat(stream(*self.place, "lost", number).random(-(-len(readings) // _OUTAGE)) < settings.lost, _OUTAGE)
            kept = ~outages[: len(readings)]
        if self.rate or len(self.jump_rows):
            jumped = self.jump_sums[np.searchsorted(self.jump_rows, np.arange(first, first + len(time)), side="right")]
            time = time * (1 + self.rate) + jumped
        return readings, codes, time, kept


def _events(seed: int, part: str, weekly: float, days: float) -> list[tuple[str, float, float]]:
    """Draw the events of a part for the whole fleet: name, start and end in true seconds."""
    found = []
    names = tuple(EVENTS)
    for week in range(int(np.ceil(days / 7))):
        rng = stream(seed, "fleet-wide events", part, week)
        for _ in range(rng.poisson(weekly)):
            name, start = names[rng.integers(len(names))], _WEEK * (week + rng.random())
            low, high = {"heat wave": (8.0, 24.0), "brown-out": (1 / 3, 1.0), "rush": (2.0, 4.0)}[name]
            found.append((name, start, start + 3600 * rng.uniform(low, high)))
    return found
