"""Calibration: from which score on a device's reading is above the threshold, followed while it works."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from typing import Annotated, NamedTuple, TypeAlias

import numpy as np
from pydantic import Field

from vedette.detectors.base import Detector
from vedette.edge.windows import Histories, Ordered, grown
from vedette.message import Array, Memory
from vedette.registry import Registry
from vedette.settings import Settings, named

__all__ = ["CALIBRATIONS", "AnyCalibration", "Calibrated", "Calibration", "Fixed", "Rate", "Realised"]

NEVER = 2**62
MOST = 1_000
"""Devices whose rates are averaged, so that it stays a matter of milliseconds."""
HELD = ("thresholds", "left", "_readings", "_set", "_seconds", "_last", "_above", "_incidents")


class Realised(NamedTuple):
    """What a device's calibration promised, and what came of it.

    Attributes
    ----------
    promised, measured
        Of what `unit` counts. What was marked as true does not count as measured.
    unit
        ``"of readings above the threshold"``, ``"incidents a week"``.
    days
        How long was watched.
    assumes
        Under which assumption it was promised.
    """

    promised: float
    measured: float
    unit: str
    days: float
    assumes: str


class Calibrated(ABC):
    """The thresholds of all devices at work.

    Attributes
    ----------
    thresholds
        [devices] float64.
    left
        [devices] int64, how many readings of a device its threshold still holds for; then `recalibrate`.
    common
        How many readings of all devices together what they share still holds for; then `renew`.
    """

    common: int = NEVER

    def __init__(self, settings: Calibration, start: float, every: int) -> None:
        self.start, self.every, self._said = start, every, settings.model_dump_json()
        self.thresholds = np.zeros(0)
        self.left = np.zeros(0, dtype=np.int64)
        self._readings, self._set = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        self._seconds, self._last = np.zeros(0), np.zeros(0)
        self._above, self._incidents = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def grow(self, devices: int) -> None:
        """Make room for so many devices."""
        self.thresholds, self.left = grown(self.thresholds, devices, self.start), grown(self.left, devices, self.every)
        self._readings, self._set = grown(self._readings, devices), grown(self._set, devices)
        self._seconds, self._last = grown(self._seconds, devices), grown(self._last, devices, np.nan)
        self._above, self._incidents = grown(self._above, devices), grown(self._incidents, devices)

    def admit(self, batch: Ordered, times: Array, scores: Array, inside: Array) -> None:
        """Take readings into account, no more of a device than are `left`.

        Parameters
        ----------
        batch
            Whose they are.
        times, scores
            [n] float64, in the batch's order of devices.
        inside
            [n] bool, which lie within an incident.
        """
        whose, counts = batch.devices[batch.starts], batch.ends - batch.starts
        self.left[whose] -= counts
        self._readings[whose] += counts
        above = scores > self.thresholds[batch.devices]
        self._above[whose] += np.add.reduceat(above, batch.starts, dtype=np.int64)
        steps = batch.steps(times, self._last[whose])
        # Nothing was watched in a pause, and a clock that is set says nothing; before the first reading there is NaN.
        self._seconds[whose] += np.add.reduceat(np.where((steps > 0) & (steps <= self.longest), steps, 0.0), batch.starts)
        self._last[whose] = times[batch.ends - 1]
        self.learn(batch, times, scores, above, inside)

    longest: float = 3600.0
    """Seconds between two readings that count as watched."""

    @abstractmethod
    def learn(self, batch: Ordered, times: Array, scores: Array, above: Array, inside: Array) -> None:
        """Learn from what may count as normal."""

    def recalibrate(self, device: int) -> None:
        """Set the threshold of a device anew, by what was admitted so far."""
        self.left[device], self._set[device] = self.every, self._readings[device]

    def renew(self) -> None:  # noqa: B027 - most share nothing
        """Set anew what devices share."""

    def opened(self, device: int) -> None:
        """Count an incident of a device."""
        self._incidents[device] += 1

    def acknowledged(self, device: int, score: float, true: bool) -> None:
        """Hear what became of an incident: what was marked as true does not count against the promise."""
        self._incidents[device] -= true

    @abstractmethod
    def realised(self, device: int) -> Realised:
        """Return what was promised for a device, and what came of it so far."""

    def overall(self, devices: int) -> Realised | None:
        """Return the mean over so many devices, each by how long it was watched; None where there is none yet."""
        each = [self.realised(device) for device in range(min(devices, MOST, len(self.thresholds)))]
        known = [found for found in each if found.days > 0 and math.isfinite(found.measured)]
        if not each:
            return None
        days = sum(found.days for found in known)
        measured = sum(found.measured * found.days for found in known) / days if days else math.nan
        return each[-1]._replace(measured=measured, days=days)

    def digest(self, device: int) -> str:
        """Return the SHA-256 of a device's threshold and of the settings and the number of readings that it was set by."""
        said = f"{self._said} {float(self.thresholds[device])!r} {int(self._set[device])}"
        return hashlib.sha256(said.encode()).hexdigest()

    def memory(self) -> Memory:
        """Return what is known of all devices."""
        return {name.lstrip("_"): getattr(self, name) for name in HELD}

    def restore(self, memory: Memory) -> None:
        """Take over what `memory` returned."""
        for name in HELD:
            setattr(self, name, np.array(memory[name.lstrip("_")]))


class Calibration(Settings, ABC):
    """Base of calibrations: the fields are settings."""

    @property
    def quiet(self) -> float:
        """Seconds without an alarm that end an incident of a device: alarms that come sooner belong to the same one."""
        return 0.0

    @abstractmethod
    def open(self, detector: Detector | None, alarms: int = 1, among: int = 1) -> Calibrated:
        """Begin.

        Parameters
        ----------
        detector
            Whose scores are judged; None where there is no bundle.
        alarms, among
            An incident opens at so many readings above the threshold among the last so many (`IncidentSettings`).
        """


class Fixed(Calibration):
    """The bundle's own threshold, or a given one; it never moves.

    Parameters
    ----------
    threshold
        The score; None: as the detector says (`Detector.threshold_`).
    """

    threshold: float | None = Field(default=None, ge=0)

    def open(self, detector: Detector | None, alarms: int = 1, among: int = 1) -> Calibrated:
        return _Fixed(self, _start(detector) if self.threshold is None else self.threshold, NEVER)


class _Fixed(Calibrated):
    def learn(self, batch: Ordered, times: Array, scores: Array, above: Array, inside: Array) -> None:
        pass

    def realised(self, device: int) -> Realised:
        readings = max(int(self._readings[device]), 1)
        assumes = "nothing: a fixed threshold promises no rate"
        unit = "of readings above the threshold"
        return Realised(math.nan, float(self._above[device] / readings), unit, float(self._seconds[device] / 86_400), assumes)


class Rate(Calibration):
    """A share of readings: rolling conformal, the threshold is the quantile of the last scores of the same device.

    Of the readings above the threshold so many count as normal as `slack` times the rate allows, cut at `cap` times the threshold: so false
    alarms, which must be expected, are learned from and the threshold follows a drift, while a fault, which brings more and higher ones,
    hardly moves it. Within an incident all else is left out, until it has lasted for `freeze` readings: then this is how the device is now.

    Parameters
    ----------
    rate
        Share of readings above the threshold.
    rows
        Scores that are looked back on.
    least
        Scores from which on a threshold is set by them; before that the bundle's holds.
    every
        Readings after which it is set anew.
    freeze
        Readings of an incident after which its scores count again.
    slack, cap
        How many readings above the threshold count, in units of `rate`, and how high, in units of the threshold.
    """

    rate: float = Field(default=0.01, gt=0, lt=1)
    rows: int = Field(default=2000, ge=10, le=1_000_000)
    least: int = Field(default=200, ge=10)
    every: int = Field(default=20, ge=1)
    freeze: int = Field(default=100, ge=0)
    slack: float = Field(default=3.0, ge=1)
    cap: float = Field(default=1.25, ge=1)

    def open(self, detector: Detector | None, alarms: int = 1, among: int = 1) -> Calibrated:
        return _Rate(self, _start(detector))


class _Rate(Calibrated):
    def __init__(self, settings: Rate, start: float) -> None:
        super().__init__(settings, start, settings.every)
        self.settings = settings
        self._scores = Histories(settings.rows, kind=np.float32)
        self._quota, self._inside = np.zeros(0), np.zeros(0, dtype=np.int64)

    def grow(self, devices: int) -> None:
        super().grow(devices)
        self._scores.reserve(devices)
        self._quota, self._inside = grown(self._quota, devices), grown(self._inside, devices)

    def learn(self, batch: Ordered, times: Array, scores: Array, above: Array, inside: Array) -> None:
        special = above | inside | np.isnan(scores)
        whose = batch.devices[batch.starts]
        stirred = np.logical_or.reduceat(special, batch.starts) | (self._inside[whose] > 0)
        most = self.settings.rate * self.settings.rows
        for device, start, end, odd in zip(whose.tolist(), batch.starts.tolist(), batch.ends.tolist(), stirred.tolist(), strict=True):
            found = scores[start:end]
            if odd:
                found = self._admitted(device, found, above[start:end], inside[start:end], most)
            else:
                self._quota[device] = min(most, self._quota[device] + self.settings.slack * self.settings.rate * len(found))
            self._scores.add(device, found[:, None])

    def _admitted(self, device: int, scores: Array, above: Array, inside: Array, most: float) -> Array:
        """Return the scores of one device that count, one after the other."""
        quota, within = float(self._quota[device]), int(self._inside[device])
        highest, more = self.settings.cap * float(self.thresholds[device]), self.settings.slack * self.settings.rate
        kept = []
        for score, high, odd in zip(scores.tolist(), above.tolist(), inside.tolist(), strict=True):
            within = within + 1 if odd else 0
            if score != score:
                continue
            quota = min(most, quota + more)
            if within > self.settings.freeze:
                kept.append(score)
            elif high and quota >= 1:
                kept.append(min(score, highest))
                quota -= 1
            elif not high and not odd:
                kept.append(score)
        self._quota[device], self._inside[device] = quota, within
        return np.array(kept)

    def recalibrate(self, device: int) -> None:
        super().recalibrate(device)
        count = self._scores.count(device)
        if count < max(self.settings.least, math.ceil(1 / self.settings.rate) - 1):
            return
        rank = math.ceil((count + 1) * (1 - self.settings.rate) - 1e-9)
        scores = self._scores.of(device)[:, 0]
        self.thresholds[device] = np.partition(scores, rank - 1)[rank - 1]

    def acknowledged(self, device: int, score: float, true: bool) -> None:
        super().acknowledged(device, score, true)
        if not true:
            self._scores.add(device, np.array([[score]]))

    def realised(self, device: int) -> Realised:
        measured = float(self._above[device] / max(int(self._readings[device]), 1))
        assumes = f"that a reading is exchangeable with the last {self.settings.rows:,} of its device that counted as normal"
        unit = "of readings above the threshold"
        return Realised(self.settings.rate, measured, unit, float(self._seconds[device] / 86_400), assumes)

    def memory(self) -> Memory:
        scores = {f"scores/{name}": value for name, value in self._scores.memory().items()}
        return {**super().memory(), **scores, "quota": self._quota, "inside": self._inside}

    def restore(self, memory: Memory) -> None:
        super().restore(memory)
        self._scores.restore({name: memory[f"scores/{name}"] for name in ("values", "written")})
        self._quota, self._inside = np.array(memory["quota"]), np.array(memory["inside"])


def _start(detector: Detector | None) -> float:
    """Return the threshold before anything is known; without a bundle nothing is above it."""
    return math.inf if detector is None else detector.threshold_


CALIBRATIONS: Registry[type[Calibration]] = Registry(
    "calibration",
    {
        "fixed": f"{__name__}:Fixed",
        "rate": f"{__name__}:Rate",
        "contract": "vedette.edge.contract:Contract",
    },
)

AnyCalibration: TypeAlias = Annotated[Calibration, *named(CALIBRATIONS)]
