"""Incidents: readings above the threshold grouped in time and across related devices, and told of once."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field, field_validator

from vedette.edge.events import Event, EventKind, event_id
from vedette.edge.fleets import FleetIncidents
from vedette.message import Array, Memory
from vedette.settings import Settings

__all__ = ["IncidentSettings", "Incidents", "Record"]

MOST = 64
"""Readings that can be looked back at: the bits of a number."""

FARTHEST = float(np.finfo(np.float64).max)


class IncidentSettings(Settings):
    """When an incident opens, is told of again, and closes.

    Parameters
    ----------
    alarms, among
        It opens at so many readings above the threshold among the last so many of a device.
    quiet, quiet_seconds
        It closes after so many readings in a row, over at least so many seconds, that lie below `low`; what comes within them belongs to
        it. None: as many seconds as the calibration says (`Calibration.quiet`).
    low
        Share of the threshold: what falls only just below it is no end.
    every
        Seconds after which an open incident is told of again, if it is not quiet; it is at once where its worst score has doubled.
    repeat
        Seconds for which further alerts of a device are counted, but not told.
    related
        Devices that can share an incident: ``"all"``, ``"none"``, or a regular expression at the beginning of their names; those for which
        its first group (without one, all that it matches) is the same are related.
    together
        Incidents of related devices are one fleet incident where they began within so many seconds of the first.
    """

    alarms: int = Field(2, ge=1, le=MOST)
    among: int = Field(3, ge=1, le=MOST)
    quiet: int = Field(5, ge=1)
    quiet_seconds: float | None = Field(None, ge=0)
    low: float = Field(0.9, gt=0, le=1)
    every: float = Field(3600.0, gt=0)
    repeat: float = Field(60.0, ge=0)
    related: str = "all"
    together: float = Field(60.0, ge=0)

    @field_validator("among")
    @classmethod
    def _enough(cls, among: int, info: Any) -> int:
        if among < info.data.get("alarms", 1):
            raise ValueError("is less than alarms")
        return among

    @field_validator("related")
    @classmethod
    def _pattern(cls, related: str) -> str:
        try:
            re.compile(related)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return related

    def group(self, device: str) -> str | None:
        """Return the group of a device; None where it is related to no other."""
        if self.related in ("all", "none"):
            return "" if self.related == "all" else None
        found = re.match(self.related, device)
        return None if found is None else found.group(1 if found.re.groups else 0)


class Record(NamedTuple):
    """What is kept of a reading that is told of; see `Event`."""

    cause: tuple[str, ...] = ()
    model: str = ""
    calibration: str = ""
    input: str = ""


@dataclass(slots=True)
class _Case:
    """Readings of one device above the threshold that belong together: an incident, once it is open."""

    id: str
    device: str
    began: float
    last: float = math.nan
    opened: bool = False
    alerts: int = 0
    readings: int = 0
    quiet: int = 0
    quiet_from: float = math.nan
    told: float = math.nan
    told_score: float = math.inf


class Incidents:
    """Follows every device through its incidents.

    What is told depends on the sequence of readings alone, not on how it was cut into batches: after a restart the same readings give the
    same events with the same ids.

    Parameters
    ----------
    settings
        When an incident opens and closes.
    record
        Says what is kept of a reading, by device and row; asked once for each that is told of with a new cause.
    quiet
        Seconds after which an incident closes where the settings do not say.

    Attributes
    ----------
    open
        [devices] bool, whether a device has an open incident.
    awake
        [devices] bool, whether a device's readings must come through `advance` even where none is above its threshold: one was, lately.
        Devices that were never heard of lie beyond the end of both.
    """

    def __init__(self, settings: IncidentSettings, record: Callable[[int, int], Record] | None = None, quiet: float = 0.0) -> None:
        self.settings, self._quiet = settings, quiet if settings.quiet_seconds is None else settings.quiet_seconds
        self.record = record if record is not None else lambda device, row: Record()
        self.open: Array = np.zeros(0, bool)
        self.awake: Array = np.zeros(0, bool)
        # Of each device: which of its last readings were above (the newest is the lowest bit), crossings so far, and when one was told.
        self._recent: Array = np.zeros(0, np.uint64)
        self._crossings: Array = np.zeros(0, np.int64)
        self._alerted: Array = np.zeros(0)
        self._cases: dict[int, _Case] = {}
        self._pending: list[tuple[int, Event, bool]] = []
        self._last: tuple[int, dict[str, Any]] | None = None
        self._fleets = FleetIncidents(settings.group, settings.together)
        self._kept = (1 << settings.among) - 1

    def grow(self, devices: int) -> None:
        """Make room for so many devices."""
        if devices > len(self.open):
            more = max(devices, 2 * len(self.open)) - len(self.open)
            for name, value in (("open", 0), ("awake", 0), ("_recent", 0), ("_crossings", 0), ("_alerted", -math.inf)):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.full(more, value, old.dtype)]))

    def advance(self, device: int, name: str, times: Array, scores: Array, threshold: float, above: Array, rows: Array) -> Array:
        """Take readings of one device further.

        Parameters
        ----------
        device, name
            Its place and its name.
        times, scores
            [n] float64, in the order of arrival; a score that is NaN counts for nothing.
        threshold
            What they are held against.
        above
            [n] bool, which are above it.
        rows
            [n] int, their places in the batch: what is told of several devices is told in this order.

        Returns
        -------
        inside
            [n] bool, which lie within an open incident.
        """
        self.grow(device + 1)
        self._last = None
        inside = np.zeros(len(times), bool)
        alarms = np.flatnonzero(above)
        if not len(alarms) and not self.awake[device]:
            return inside
        settings, case, recent = self.settings, self._cases.get(device), int(self._recent[device])
        # A threshold that is not yet known is infinite; nothing is far below it.
        low = threshold - (1 - settings.low) * abs(threshold) if math.isfinite(threshold) else threshold
        # JSON knows no infinity.
        at, times_, scores_, above_ = 0, times.tolist(), scores.clip(-FARTHEST, FARTHEST).tolist(), above.tolist()
        rows_ = rows.tolist()
        while at < len(times_):
            if case is None and not recent:
                place = int(np.searchsorted(alarms, at))
                if place == len(alarms):
                    break
                at = int(alarms[place])
            time, score, alarm = times_[at], scores_[at], above_[at]
            if score == score:
                crossing, earlier = alarm and not recent & 1, recent << 1 & self._kept
                recent = earlier | alarm
                if case is not None and not case.opened and not earlier:
                    case = None
                if alarm:
                    case = self._above(case, device, name, time, score, threshold, crossing, rows_[at])
                if case is not None and case.opened:
                    inside[at] = True
                    if self._goes_on(case, device, rows_[at], time, score, threshold, alarm, low):
                        case, recent = None, 0
                elif case is not None and recent.bit_count() >= settings.alarms:
                    inside[at] = case.opened = True
                    self._tell("opened", device, rows_[at], time, case, score, threshold)
            elif case is not None and case.opened:
                inside[at] = True
            at += 1
        self._recent[device] = recent
        self.open[device] = case is not None and case.opened
        self.awake[device] = case is not None or recent != 0
        if case is None:
            self._cases.pop(device, None)
        else:
            self._cases[device] = case
        return inside

    def _recorded(self, device: int, row: int) -> dict[str, Any]:
        """Return what is kept of a reading, which may tell of two events."""
        if self._last is None or self._last[0] != row:
            self._last = row, self.record(device, row)._asdict()
        return self._last[1]

    def _above(
        self, case: _Case | None, device: int, name: str, time: float, score: float, threshold: float, crossing: bool, row: int
    ) -> _Case:
        """Count a reading above the threshold, and tell of it where it crossed it."""
        # Clocks are set back at times: the count of crossings keeps ids apart.
        count = int(self._crossings[device]) + 1 if crossing else 0
        case = case if case is not None else _Case(event_id("opened", name, time, str(count)), name, time)
        case.readings, case.last = case.readings + 1, time
        if crossing:
            self._crossings[device] = count
            case.alerts += 1
            if not abs(time - self._alerted[device]) < self.settings.repeat:
                self._alerted[device] = time
                event = Event(
                    id=event_id("alert", name, time, str(count)),
                    kind="alert",
                    device=name,
                    time=time,
                    incident=case.id,
                    score=score,
                    threshold=threshold,
                    began=case.began,
                    last=time,
                    **self._recorded(device, row),
                )
                self._pending.append((row, event, True))
        return case

    def _goes_on(self, case: _Case, device: int, row: int, time: float, score: float, threshold: float, alarm: bool, low: float) -> bool:
        """Take an open incident over one more reading; returns whether it closed there."""
        if alarm or score >= low:
            case.quiet = 0
        else:
            case.quiet_from = case.quiet_from if case.quiet else time
            case.quiet += 1
        if case.quiet >= self.settings.quiet and abs(time - case.quiet_from) >= self._quiet:
            self._tell("closed", device, row, time, case)
            return True
        if score >= 2 * case.told_score > 0:
            self._tell("updated", device, row, time, case, score, threshold)
        elif not case.quiet and abs(time - case.told) >= self.settings.every:
            self._tell("updated", device, row, time, case)
        return False

    def _tell(
        self, kind: EventKind, device: int, row: int, time: float, case: _Case, score: float = math.nan, threshold: float = math.nan
    ) -> None:
        """Tell how an incident goes on: by the reading at hand if its score is given, else with what was told of it last."""
        case.told, own = time, not math.isnan(score)
        case.told_score = score if own else case.told_score
        event = Event(
            # An update of the same moment as the one before it is the same update.
            id=case.id if kind == "opened" else event_id(kind, case.device, time, case.id, str(case.readings)),
            kind=kind,
            device=case.device,
            time=time,
            incident=case.id,
            score=score if own else 0.0,
            threshold=threshold if own else 0.0,
            began=case.began,
            last=case.last,
            alerts=case.alerts,
            readings=case.readings,
            **(self._recorded(device, row) if own else {}),
        )
        self._pending.append((row, event, own))

    def drained(self) -> list[Event]:
        """Return what there is to tell of the batch, in the order of its rows, with the fleet incidents that it belongs to."""
        pending, self._pending = self._pending, []
        return [found for _, event, own in sorted(pending, key=lambda item: item[0]) for found in self._fleets.told(event, own)]

    @property
    def current(self) -> list[Event]:
        """What was last told of each open incident."""
        return list(self._fleets.current.values())

    def memory(self) -> Memory:
        """Return all that is known, for a snapshot between two batches."""
        plain = {"cases": [[device, asdict(case)] for device, case in self._cases.items()], "fleets": self._fleets.memory()}
        arrays = {"open": self.open, "awake": self.awake, "recent": self._recent, "crossings": self._crossings, "alerted": self._alerted}
        return {**{name: array.copy() for name, array in arrays.items()}, "plain": json.dumps(plain)}

    def restore(self, memory: Memory) -> None:
        """Go on from what `memory` returned."""
        self.open, self.awake = np.array(memory["open"]), np.array(memory["awake"])
        self._recent, self._crossings, self._alerted = (np.array(memory[name]) for name in ("recent", "crossings", "alerted"))
        plain = json.loads(str(memory["plain"]))
        self._cases = {device: _Case(**case) for device, case in plain["cases"]}
        self._fleets.restore(plain["fleets"])
        self._pending.clear()
