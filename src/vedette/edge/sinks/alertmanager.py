"""Incidents as alerts of Prometheus' Alertmanager."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, field_validator

from vedette.edge.endpoint import Endpoint
from vedette.edge.events import Event
from vedette.edge.sinks.base import Outlet, Sink
from vedette.edge.times import rfc3339

__all__ = ["Alertmanager", "posted"]

KEPT = 4
"""So many times longer than it takes to be told again, an alert fires on its own: a sentry that is away for a while ends no incident."""

AT_ONCE = 500
"""Alerts in one post."""


def posted(event: Event, labels: Mapping[str, str], now: float, lasts: float) -> dict[str, Any]:
    """Say an incident as `/api/v2/alerts` takes it.

    Parameters
    ----------
    event
        What is told of it.
    labels
        Further ones. Those of one incident are always the same, for by them it is known.
    now, lasts
        Seconds since 1970, and for how many seconds it fires unless it is told of again.
    """
    ends = now if event.kind == "closed" else now + lasts
    notes = {
        "summary": ": ".join([event.device, *event.cause[:1]]),
        "description": "; ".join(event.cause),
        "severity": event.severity,
        "score": f"{event.score:.6g}",
        "threshold": f"{event.threshold:.6g}",
        "began": rfc3339(event.began),
        "readings": str(event.readings),
    }
    if event.fleet is not None:
        notes |= {"fleet": event.fleet, "origin": str(event.origin)}
    return {
        "labels": {**labels, "alertname": "VedetteIncident", "device": event.device, "incident": event.incident},
        "annotations": notes,
        # A device whose clock is ahead: what begins after it ends is refused.
        "startsAt": rfc3339(min(event.began, ends - 1)),
        "endsAt": rfc3339(ends),
    }


class Alertmanager(Endpoint, Sink):
    """Incidents as alerts of Alertmanager (API v2), told again while they are open.

    Parameters
    ----------
    url
        Of the server: ``http://127.0.0.1:9093``; ``/api/v2/alerts`` is added.
    labels
        Further labels of all alerts, such as ``{site = "north"}``.
    every
        Seconds after which those that are open are told again.
    """

    labels: dict[str, str] = {}
    every: float = Field(60.0, ge=1)

    @field_validator("labels")
    @classmethod
    def _names(cls, labels: dict[str, str]) -> dict[str, str]:
        for name in labels:
            if not (name.isascii() and name.isidentifier()) or name in ("alertname", "device", "incident"):
                raise ValueError(f"'{name}' cannot be a label of yours")
        return labels

    def open(self) -> Outlet:
        return _Opened(self)


class _Opened(Outlet):
    def __init__(self, sink: Alertmanager) -> None:
        self.sink, self.every = sink, sink.every
        url = sink.url.rstrip("/").removesuffix("/api/v2/alerts") + "/api/v2/alerts"
        self.poster = sink.model_copy(update={"url": url}).connected()

    def send(self, events: Sequence[Event]) -> None:
        now = time.time()
        # Of each incident the newest; an alert is told with its incident.
        newest = {event.incident: event for event in events if event.kind != "alert"}
        alerts = [posted(event, self.sink.labels, now, KEPT * self.every) for event in newest.values()]
        for begin in range(0, len(alerts), AT_ONCE):
            body = json.dumps(alerts[begin : begin + AT_ONCE], ensure_ascii=False).encode()
            self.poster.post(body, {"Content-Type": "application/json"})

    def remind(self, current: Sequence[Event]) -> None:
        self.send(current)

    def close(self) -> None:
        self.poster.close()
