"""Events as lines of JSON like those of Suricata's EVE log, so that what reads those reads these."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vedette.edge.events import Event
from vedette.edge.sinks.base import Outlet, Sink, Unaccepted
from vedette.edge.times import rfc3339
from vedette.errors import StorageError

__all__ = ["EveLines", "eve"]

GROUP = 5_601
"""`gid` of the alerts: a generator of their own, for Suricata's rules have 1."""

SIGNATURES = {"alert": 1, "opened": 2, "updated": 3, "closed": 4}
SEVERITIES = {"high": 1, "medium": 2, "low": 3}


def eve(event: Event, host: str) -> dict[str, Any]:
    """Say an event as EVE does: ``event_type: "alert"``, the rest under ``vedette``."""
    subject = "score above threshold" if event.kind == "alert" else f"incident {event.kind}"
    return {
        "timestamp": rfc3339(event.time).replace("Z", "+0000"),
        "event_type": "alert",
        "host": host,
        "alert": {
            "action": "allowed",
            "gid": GROUP,
            "signature_id": SIGNATURES[event.kind],
            "rev": 1,
            "signature": f"VEDETTE {subject} at {event.device}",
            "category": "Anomaly",
            "severity": SEVERITIES[event.severity],
        },
        "vedette": event.said(),
    }


class EveLines(Sink):
    """Events appended to a file, whole lines at a time; the file may be rotated by whoever likes to.

    Parameters
    ----------
    path
        The file; its folder must be there.
    host
        The name this machine gives itself; "" for its own.
    """

    path: Path
    host: str = ""

    def open(self) -> Outlet:
        if not self.path.parent.is_dir():
            raise StorageError(f"cannot write {self.path}: its folder is not there; make it, or say another path")
        return _Opened(self)


class _Opened(Outlet):
    def __init__(self, sink: EveLines) -> None:
        self.path, self.host = sink.path, sink.host or socket.gethostname()

    def send(self, events: Sequence[Event]) -> None:
        text = "".join(json.dumps(eve(event, self.host), ensure_ascii=False) + "\n" for event in events).encode()
        try:
            # Opened anew each time: it may have been rotated.
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            try:
                self._append(handle, text)
            finally:
                os.close(handle)
        except OSError as error:
            raise Unaccepted(f"cannot write {self.path}: {error.strerror or error}") from None

    def _append(self, handle: int, text: bytes) -> None:
        size = os.fstat(handle).st_size
        # A process that was killed amid a line left it without its end; what it held is told again.
        if size and os.pread(handle, 1, size - 1) != b"\n":
            os.write(handle, b"\n")
            size += 1
        try:
            if (written := os.write(handle, text)) < len(text):
                raise OSError(f"only {written} of {len(text)} bytes could be written")
            os.fdatasync(handle)
        except OSError:
            os.ftruncate(handle, size)
            raise

    def close(self) -> None:
        pass
