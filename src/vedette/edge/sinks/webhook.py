"""Events posted to a web address, as CloudEvents."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vedette.edge.endpoint import Endpoint
from vedette.edge.events import Event
from vedette.edge.sinks.base import Outlet, Sink
from vedette.edge.times import rfc3339
from vedette.edge.transport import secret
from vedette.errors import KeysError

__all__ = ["CloudEvents", "CloudPoster", "Webhook", "cloud_event", "signature"]


def cloud_event(event: Event, source: str) -> dict[str, Any]:
    """Say an event as CloudEvents 1.0 do, in the structured mode."""
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": source,
        "type": f"org.vedette.{'alert' if event.kind == 'alert' else f'incident.{event.kind}'}.v1",
        "subject": event.device,
        "time": rfc3339(event.time),
        "datacontenttype": "application/json",
        "data": event.said(),
    }


def signature(key: bytes, id_: str, seconds: int, body: bytes) -> str:
    """Sign a post as Standard Webhooks say: HMAC-SHA256 over id, time and body."""
    signed = f"{id_}.{seconds}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class CloudEvents(Endpoint):
    """An address that takes CloudEvents.

    Parameters
    ----------
    source
        Who tells, as a URI reference.
    secret_file
        Holds what posts are signed with (Standard Webhooks: ``whsec_`` and base64); of mode 600.
    """

    source: str = "/vedette"
    secret_file: Path | None = None

    def ready_to_post(self) -> CloudPoster:
        """Return what posts events there; errors: see `Endpoint.connected` and `secret`."""
        return CloudPoster(self)


class CloudPoster:
    """Posts events, one at a time; used by one thread."""

    def __init__(self, settings: CloudEvents) -> None:
        self.source = settings.source
        self.key = None if settings.secret_file is None else _key(settings.secret_file)
        self.poster = settings.connected()

    def post(self, event: Event) -> None:
        """Post an event; return once it is accepted. `Unaccepted`: it was not."""
        body = json.dumps(cloud_event(event, self.source), ensure_ascii=False, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/cloudevents+json; charset=utf-8", "webhook-id": event.id}
        if self.key is not None:
            now = int(time.time())
            headers |= {"webhook-timestamp": str(now), "webhook-signature": signature(self.key, event.id, now, body)}
        self.poster.post(body, headers)

    def close(self) -> None:
        """Close the connection."""
        self.poster.close()


class Webhook(CloudEvents, Sink):
    """Each event posted by itself, as a CloudEvent (1.0, structured JSON)."""

    def open(self) -> Outlet:
        return _Opened(self.ready_to_post())


class _Opened(Outlet):
    def __init__(self, poster: CloudPoster) -> None:
        self.poster = poster

    def send(self, events: Sequence[Event]) -> None:
        for event in events:
            self.poster.post(event)

    def close(self) -> None:
        self.poster.close()


def _key(path: Path) -> bytes:
    try:
        found = base64.b64decode(secret(path).removeprefix("whsec_"), validate=True)
    except binascii.Error:
        found = b""
    if len(found) < 24:
        raise KeysError(f"{path} holds no key for webhooks: write whsec_ and base64 of at least 24 bytes into it")
    return found
