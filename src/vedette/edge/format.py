"""How payloads are laid out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from vedette.settings import Settings

__all__ = ["UNITS", "Format"]

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Seconds in a unit of time."""


class Format(Settings):
    """How payloads are laid out. Paths lead into nested objects by dots; a key that holds dots itself is found first.

    Parameters
    ----------
    device
        Path of the field that names the device; empty: the source names it.
    time
        Path of the time of a reading, a number in `unit` since 1970 or ISO 8601 text (UTC if it does not say); empty: when it arrived.
    unit
        ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``.
    sequence
        Path of a number that grows by one with each reading of a device: gaps are counted, what is delivered again is known by it.
    readings
        Path of the list of readings within a payload; device, time and sequence may stand beside it.
    value
        Where a payload is the value of one sensor: path of the value, if the payload is an object.
    order
        What the entries of a list are, in order; empty: the detector's features.
    fields
        Path of a feature where it is not the feature's own name.
    tolerance
        Seconds that a reading may be older than the last one of its device.
    ahead
        A reading that is later than its arrival by more than so many seconds has a wrong clock: its arrival counts.
    patience
        A device that sent only old readings for so many seconds has set its clock back: their arrival counts.
    most_bytes
        Larger payloads are refused.
    """

    device: str = ""
    time: str = ""
    unit: Literal["s", "ms", "us", "ns"] = "s"
    sequence: str = ""
    readings: str = ""
    value: str = "value"
    order: tuple[str, ...] = ()
    fields: Mapping[str, str] = {}
    tolerance: float = Field(default=0.0, ge=0)
    ahead: float = Field(default=300.0, gt=0)
    patience: float = Field(default=60.0, ge=0)
    most_bytes: int = Field(default=4 * 2**20, ge=1)
