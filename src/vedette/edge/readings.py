"""Readings as they come in: a batch of rows of many devices, in the order of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vedette.data.table import Coded, Feature, Table
from vedette.message import Array

__all__ = ["Devices", "Readings"]


class Readings(NamedTuple):
    """Rows that are scored together.

    Attributes
    ----------
    devices
        [n] int32, places in `Devices`.
    times
        [n] float64, when they were taken, in seconds since 1970: as the reading says, or when it arrived.
    numbers
        [n, number features] float64, NaN where a value is missing.
    categories
        A column for each category feature.
    """

    devices: Array
    times: Array
    numbers: Array
    categories: tuple[Coded, ...] = ()

    def __len__(self) -> int:
        return len(self.devices)

    def take(self, rows: Array | slice) -> Readings:
        """Return some rows, by index, mask or slice."""
        return Readings(self.devices[rows], self.times[rows], self.numbers[rows], tuple(column.take(rows) for column in self.categories))

    def table(self, features: Sequence[Feature]) -> Table:
        """Return the rows as a table of these features."""
        return Table(tuple(features), self.numbers, self.categories, time=self.times)

    @classmethod
    def concat(cls, parts: Sequence[Readings]) -> Readings:
        """Join batches in order."""
        if len(parts) == 1:
            return parts[0]
        columns = zip(*(part.categories for part in parts), strict=True)
        return cls(
            np.concatenate([part.devices for part in parts]),
            np.concatenate([part.times for part in parts]),
            np.concatenate([part.numbers for part in parts]),
            tuple(Coded.concat(column) for column in columns),
        )


class Devices:
    """The names of devices, each with a place of its own, in the order they were first seen.

    Parameters
    ----------
    names
        Those that are known already.
    most
        No more than so many: a source that invents names shall not fill the memory.
    """

    def __init__(self, names: Sequence[str] = (), most: int = 100_000) -> None:
        self.names = list(names)
        self.most = most
        self._places = {name: place for place, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def place(self, name: str) -> int | None:
        """Return the place of a device, a new one where it was never seen; None if there are too many already."""
        place = self._places.get(name)
        if place is None and len(self.names) < self.most:
            place = self._places[name] = len(self.names)
            self.names.append(name)
        return place
