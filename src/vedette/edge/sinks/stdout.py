"""Events on the standard output, for people or for a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Literal

from vedette.edge.events import Event
from vedette.edge.sinks.base import Outlet, Sink, Unaccepted
from vedette.edge.times import clock

__all__ = ["Stdout", "line"]


def line(event: Event) -> str:
    """Say an event in one line."""
    parts = [
        f"{clock(event.time)}  {event.kind:<7}  {event.device}  {event.severity}  score {event.score:.4g}, threshold {event.threshold:.4g}"
    ]
    if event.kind != "alert":
        parts.append(f"{event.alerts} alert{'s' * (event.alerts > 1)} in {event.lasted:,.0f} s")
    if event.fleet is not None:
        parts.append(f"one of the fleet's, which began at {event.origin}")
    said = "; ".join([*parts, *event.cause]) + f"  [{event.id[:8]}]"
    # Names and texts come from devices, and shall not move the cursor.
    return "".join(char if char.isprintable() else "\ufffd" for char in said)


class Stdout(Sink):
    """Events on the standard output.

    Parameters
    ----------
    form
        ``"text"``: a line for people; ``"json"``: an object a line.
    """

    form: Literal["text", "json"] = "text"

    def open(self) -> Outlet:
        return _Opened(self)


class _Opened(Outlet):
    def __init__(self, sink: Stdout) -> None:
        self.sink = sink

    def send(self, events: Sequence[Event]) -> None:
        lines = [json.dumps(event.said(), ensure_ascii=False) if self.sink.form == "json" else line(event) for event in events]
        try:
            sys.stdout.write("".join(f"{one}\n" for one in lines))
            sys.stdout.flush()
        except BrokenPipeError:
            raise Unaccepted("nobody reads the standard output any more", lasting=True) from None
        except OSError as error:
            raise Unaccepted(error.strerror or str(error)) from None

    def close(self) -> None:
        pass
