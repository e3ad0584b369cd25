"""Values that come one by one, held until they are a reading."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

__all__ = ["Held", "Whole"]


class Whole(NamedTuple):
    """A reading made of values that came one by one.

    Attributes
    ----------
    values
        By feature; None where none has come yet.
    time
        The latest that its values say; None if they say none.
    at
        When the last of them arrived.
    """

    values: list[Any]
    time: float | None
    at: float


@dataclass
class _Device:
    values: list[Any]
    renewed: set[int] = field(default_factory=set)
    time: float | None = None
    at: float = 0.0


class Held:
    """The latest values of each device.

    Parameters
    ----------
    features
        How many a reading has.
    """

    def __init__(self, features: int) -> None:
        self._features = features
        self._devices: dict[int, _Device] = {}

    def put(self, place: int, feature: int, value: Any, time: float | None, at: float) -> Iterator[Whole]:
        """Take a value of a device, and yield the readings that are whole now: when a feature comes again, and when all have come."""
        device = self._devices.setdefault(place, _Device([None] * self._features))
        if feature in device.renewed:
            yield self._taken(device)
        device.values[feature], device.at = value, at
        device.renewed.add(feature)
        if time is not None:
            device.time = time if device.time is None else max(device.time, time)
        if len(device.renewed) == self._features:
            yield self._taken(device)

    def said(self) -> str:
        """Return it as text, for `of`."""
        devices = {str(place): [d.values, sorted(d.renewed), d.time, d.at] for place, d in self._devices.items()}
        return json.dumps(devices)

    @classmethod
    def of(cls, text: str, features: int) -> Self:
        """Make it of what it said."""
        held = cls(features)
        for place, (values, renewed, time, at) in json.loads(text).items():
            held._devices[int(place)] = _Device(values, set(renewed), time, at)
        return held

    @staticmethod
    def _taken(device: _Device) -> Whole:
        whole = Whole(list(device.values), device.time, device.at)
        device.renewed.clear()
        device.time = None
        return whole
