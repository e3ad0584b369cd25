"""Fleet incidents: incidents of related devices that began together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vedette.edge.events import Event, event_id

__all__ = ["FleetIncidents"]

OF_A_READING = ("score", "threshold", "cause", "model", "calibration", "input")


@dataclass(slots=True)
class _Gathering:
    """The last beginnings in a group of devices: the first of them, where they began, and what they are called once they are several."""

    first: str
    origin: str
    began: float
    earliest: float
    fleet: str | None = None


class FleetIncidents:
    """Says of each event which fleet incident it belongs to.

    Parameters
    ----------
    group
        The group of a device; None where it is related to no other.
    together
        Seconds from the first beginning within which others join it.

    Attributes
    ----------
    current
        By id of each open incident, what was told of it last.
    """

    def __init__(self, group: Callable[[str], str | None], together: float) -> None:
        self.group, self.together = group, together
        self.current: dict[str, Event] = {}
        self._gatherings: dict[str, _Gathering] = {}

    def told(self, event: Event, own: bool = True) -> Iterator[Event]:
        """Yield an event with its fleet incident, and before it what else is now known.

        Parameters
        ----------
        event
            Given in the order they happened.
        own
            Whether it tells of a reading of its own; else it is told with the one that its incident was told of last.
        """
        before = self.current.get(event.incident)
        if event.kind == "opened":
            event, known = self._gathered(event)
            if known is not None:
                self.current[known.incident] = known
                yield known
        elif before is not None:
            kept: dict[str, Any] = {"fleet": before.fleet, "origin": before.origin}
            if not own:
                kept |= {name: getattr(before, name) for name in OF_A_READING}
            event = event.model_copy(update=kept)
        if event.kind == "closed":
            self.current.pop(event.incident, None)
        elif event.kind != "alert":
            self.current[event.incident] = event
        yield event

    def _gathered(self, event: Event) -> tuple[Event, Event | None]:
        """Find what an incident belongs to; where it is the second, return what is told anew of the first."""
        group = self.group(event.device)
        if group is None:
            return event, None
        found = self._gatherings.get(group)
        if found is None or event.began > found.began + self.together:
            self._gatherings[group] = _Gathering(event.incident, event.device, event.began, event.began)
            return event, None
        # A clock that is far behind belongs to nothing that goes on.
        if event.began < found.began - self.together:
            return event, None
        first = None if found.fleet is not None else self.current.get(found.first)
        if found.fleet is None:
            found.fleet = event_id("opened", found.origin, found.began, found.first, "fleet")
        if event.began < found.earliest:
            found.origin, found.earliest = event.device, event.began
        now = {"fleet": found.fleet, "origin": found.origin}
        if first is not None:
            again = event_id("updated", first.device, event.time, first.incident, found.fleet)
            first = first.model_copy(update={"id": again, "kind": "updated", "time": event.time, **now})
        return event.model_copy(update=now), first

    def memory(self) -> dict[str, Any]:
        """Return all that is known, as JSON."""
        return {
            "current": [event.model_dump(mode="json") for event in self.current.values()],
            "gatherings": {group: asdict(found) for group, found in self._gatherings.items()},
        }

    def restore(self, memory: Mapping[str, Any]) -> None:
        """Go on from what `memory` returned."""
        self.current = {event["incident"]: Event.model_validate(event) for event in memory["current"]}
        self._gatherings = {group: _Gathering(**found) for group, found in memory["gatherings"].items()}
