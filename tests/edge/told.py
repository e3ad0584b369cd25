"""Events to tell, for tests of whoever tells them."""

from __future__ import annotations

from vedette.edge.events import Event, EventKind, event_id


def event(
    kind: EventKind, number: int = 0, device: str = "pump-1", time: float = 1_800_000_000.0, score: float = 3.0, updates: int = 0
) -> Event:
    """Return an event of the incident with a number of a device, which began at `time`."""
    incident = event_id("opened", device, time, str(number))
    return Event(
        id=incident if kind == "opened" else event_id(kind, device, time, str(number), str(updates)),
        kind=kind,
        device=device,
        time=time + updates,
        incident=incident,
        score=score,
        threshold=1.0,
        began=time,
        alerts=2,
        readings=3,
        cause=("flow 63 %: 31.2 m³/h where 46.8 was expected",),
        model="m" * 64,
        calibration="c" * 64,
        input="i" * 64,
    )
