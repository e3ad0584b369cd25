"""Judging scored readings: thresholds that follow each device, and incidents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, Self

import numpy as np

from vedette.detectors.base import Detector
from vedette.edge.calibration import Calibrated, Calibration
from vedette.edge.events import Event
from vedette.edge.incidents import Incidents, IncidentSettings, Record
from vedette.edge.readings import Devices, Readings
from vedette.edge.windows import Ordered, grouped, ordered
from vedette.message import Array

__all__ = ["Judge", "Judged", "Watcher"]


class Judged(NamedTuple):
    """What became of a batch, in its order.

    Attributes
    ----------
    scores, thresholds
        [n] float64, and what each of them was held against.
    inside
        [n] bool, which readings lie within an incident.
    events
        What there is to tell.
    """

    scores: Array
    thresholds: Array
    inside: Array
    events: list[Event]


class Watcher(Protocol):
    """What scores readings: `Scorer` or `RollingScorer`."""

    def pieces(self, readings: Readings) -> Iterator[slice]:
        """Cut a batch where a model changes."""

    def score(self, readings: Readings) -> Array:
        """Score a piece."""

    def learn(self, inside: Array, thresholds: Array) -> None:
        """Learn from the piece scored last."""


class Judge:
    """Holds scores against their devices' thresholds, follows incidents, and lets calibrations learn from what counts as normal.

    A threshold moves between two readings of its device, after as many as its calibration says, wherever batches end: one by one, in
    batches and all at once give the same events. Devices where nothing happens are judged together.

    Parameters
    ----------
    calibrated
        The thresholds.
    incidents
        The incidents.
    devices
        Their names.
    """

    def __init__(self, calibrated: Calibrated, incidents: Incidents, devices: Devices) -> None:
        self.calibrated, self.incidents, self.devices = calibrated, incidents, devices

    @classmethod
    def of(
        cls,
        calibration: Calibration,
        settings: IncidentSettings,
        devices: Devices,
        detector: Detector | None = None,
        record: Callable[[int, int], Record] | None = None,
    ) -> Self:
        """Begin.

        Parameters
        ----------
        calibration, settings
            What sets thresholds, and when an incident opens and closes.
        devices
            Their names.
        detector
            Whose scores are judged; None where there is no bundle.
        record
            See `Incidents`.
        """
        return cls(calibration.open(detector, settings.alarms, settings.among), Incidents(settings, record, calibration.quiet), devices)

    def judge(self, readings: Readings, scores: Array) -> Judged:
        """Judge a batch.

        Parameters
        ----------
        readings
            [n] of any devices.
        scores
            [n] float64; NaN where there is none.
        """
        thresholds, inside = np.empty(len(scores)), np.zeros(len(scores), dtype=bool)
        if len(scores):
            self.calibrated.grow(len(self.devices))
            self.incidents.grow(len(self.devices))
        first = 0
        while first < len(scores):
            # What devices share is set anew at one place in the sequence of all readings.
            part = slice(first, min(len(scores), first + self.calibrated.common))
            self._part(readings.devices[part], readings.times[part], scores[part], thresholds[part], inside[part], first)
            first = part.stop
            if self.calibrated.common <= 0:
                self.calibrated.renew()
        events = self.incidents.drained()
        for event in events:
            place = self.devices.place(event.device) if event.kind == "opened" else None
            if place is not None:
                self.calibrated.opened(place)
        return Judged(scores, thresholds, inside, events)

    def watch(self, scorer: Watcher, readings: Readings) -> Judged:
        """Score a batch and judge it, piece by piece where the scorer learns from what was judged."""
        found = []
        for part in scorer.pieces(readings):
            piece = readings.take(part)
            scores = scorer.score(piece)
            judged = self.judge(piece, scores)
            scorer.learn(judged.inside, judged.thresholds)
            found.append(judged._replace(scores=scores))
        if len(found) == 1:
            return found[0]
        events = [event for each in found for event in each.events]
        columns = (np.concatenate([np.zeros(0), *column]) for column in zip(*(each[:3] for each in found), strict=True))
        scores, thresholds, inside = tuple(columns) if found else (np.zeros(0),) * 3
        return Judged(scores, thresholds, inside.astype(bool), events)

    def _part(self, devices: Array, times: Array, scores: Array, thresholds: Array, inside: Array, first: int) -> None:
        batch, left = ordered(devices), self.calibrated.left
        rows = np.arange(len(devices))
        # Each turn takes of each device as many readings as its threshold still holds for.
        while len(batch.rows):
            now = batch.rank < left[batch.devices]
            whole = bool(now.all())
            turn = batch if whole else chosen(batch, now)
            self._turn(turn, rows, times, scores, thresholds, inside, first)
            for device in turn.devices[turn.starts][left[turn.devices[turn.starts]] <= 0].tolist():
                self.calibrated.recalibrate(device)
            if whole:
                break
            batch = chosen(batch, ~now)

    def _turn(self, batch: Ordered, rows: Array, times: Array, scores: Array, thresholds: Array, inside: Array, first: int) -> None:
        """Judge readings for all of which the thresholds hold."""
        found, when = scores[batch.rows], times[batch.rows]
        held = self.calibrated.thresholds[batch.devices]
        above = found > held
        within = np.zeros(len(found), dtype=bool)
        whose = batch.devices[batch.starts]
        stirred = np.logical_or.reduceat(above, batch.starts) | self.incidents.awake[whose]
        for device, start, end in zip(whose[stirred].tolist(), batch.starts[stirred].tolist(), batch.ends[stirred].tolist(), strict=True):
            part, name = slice(start, end), self.devices.names[device]
            within[part] = self.incidents.advance(
                device, name, when[part], found[part], float(held[start]), above[part], first + rows[batch.rows[part]]
            )
        thresholds[batch.rows], inside[batch.rows] = held, within
        self.calibrated.admit(batch, when, found, within)


def chosen(batch: Ordered, which: Array) -> Ordered:
    """Return some rows of a batch, ranked anew."""
    return grouped(batch.rows[which], batch.devices[which])
