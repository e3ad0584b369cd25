"""What is told of anomalies: alerts and incidents as events, each with an id that says the same after a restart."""

from __future__ import annotations

import hashlib
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

__all__ = ["Event", "EventKind", "Severity", "event_id"]

EventKind: TypeAlias = Literal["alert", "opened", "updated", "closed"]
Severity: TypeAlias = Literal["low", "medium", "high"]

MEDIUM, HIGH = 2.0, 5.0
"""From how many times the threshold on an event is of that severity."""


class Event(BaseModel):
    """One thing to tell: an alert, or how an incident began, went on or ended.

    Attributes
    ----------
    id
        Follows from device, time and kind alone, so that an event told twice is known to be one.
    kind
        ``"alert"``: a crossing of the threshold; ``"opened"``, ``"updated"``, ``"closed"``: of an incident.
    device
        Where.
    time
        Seconds since 1970, of the reading.
    incident
        Id of the incident it belongs to.
    fleet
        Id of the incident among related devices, and `origin`, the device where that began; both None where one device is concerned.
    score, threshold
        Of the reading; of an incident, of the reading that it was told of last: the one that opened it, or one that scored twice as much.
    began, last
        Of an incident, the times of its first and of its last reading above the threshold.
    alerts, readings
        Of an incident: how many so far, above the threshold too.
    cause
        Features with the largest shares, in words: ``"flow 63 %: 31.2 m³/h where 46.8 was expected"``.
    model, calibration, input
        SHA-256 of the bundle, of the state of the calibration, and of the values that were scored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    kind: EventKind
    device: str
    time: float
    incident: str
    fleet: str | None = None
    origin: str | None = None
    score: float
    threshold: float
    began: float
    last: float | None = None
    alerts: int = 1
    readings: int = 1
    cause: tuple[str, ...] = ()
    model: str = ""
    calibration: str = ""
    input: str = ""

    @property
    def severity(self) -> Severity:
        """How far above the threshold: below 2 times ``"low"``, below 5 times ``"medium"``, else ``"high"``."""
        # Scores of some detectors are below zero; what counts is the distance, in thresholds.
        times = 1 + (self.score - self.threshold) / max(abs(self.threshold), 1e-300)
        return "high" if times >= HIGH else "medium" if times >= MEDIUM else "low"

    @property
    def lasted(self) -> float:
        """Seconds from the first to the last reading above the threshold, of an incident."""
        return (self.time if self.last is None else self.last) - self.began

    def said(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"schema": "vedette.event/1", **self.model_dump(mode="json"), "severity": self.severity}


def event_id(kind: EventKind, device: str, time: float, *more: str) -> str:
    """Return an id of 20 hexadecimal digits that follows from what happened where and when."""
    said = "\x1f".join((kind, device, repr(float(time)), *more))
    return hashlib.sha256(said.encode()).hexdigest()[:20]
