"""Rows that wait to be readings: values packed one behind the other, as few objects as can be."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vedette.data.table import Coded
from vedette.edge.counting import Counts
from vedette.message import Array

__all__ = ["LONGEST", "Rows", "Taken"]

LONGEST = 256
"""Characters of a device's name or of a category, at most."""


class Taken(NamedTuple):
    """Rows as arrays.

    Attributes
    ----------
    places, times, stated, arrived
        By row: the place of the device, its time, whether the row said it, and when it arrived.
    numbers
        [rows, number features] float64, finite or NaN.
    categories
        A column for each category feature.
    """

    places: list[int]
    times: list[float]
    stated: list[bool]
    arrived: list[float]
    numbers: Array
    categories: tuple[Coded, ...]

    def take(self, rows: Array) -> Taken:
        """Return some of the rows."""
        places, times, stated, arrived = ([column[row] for row in rows] for column in self[:4])
        return Taken(places, times, stated, arrived, self.numbers[rows], tuple(column.take(rows) for column in self.categories))


class Rows:
    """Collects rows.

    Parameters
    ----------
    numbers, categories
        How many features of each kind a row has.
    counts
        Where values that are none are counted.

    Attributes
    ----------
    places, times, stated, arrived
        See `Taken`.
    """

    def __init__(self, numbers: int, categories: int, counts: Counts) -> None:
        self._counts, self._columns = counts, categories
        self._pack = struct.Struct(f"{numbers}d").pack
        self._new()

    def _new(self) -> None:
        self.places: list[int] = []
        self.times: list[float] = []
        self.stated: list[bool] = []
        self.arrived: list[float] = []
        self._cells = bytearray()
        self._texts: list[Sequence[str]] = []
        self._blank = 0

    def taken(self) -> Taken | None:
        """Return the rows that hold any value, None if none does; count the others, and begin anew. There must have been a row."""
        count = len(self.places)
        numbers = np.frombuffer(self._cells, dtype=np.float64).reshape(count, -1) if self._cells else np.empty((count, 0))
        columns = tuple(Coded.of(column) for column in zip(*self._texts, strict=True)) if self._columns else ()
        taken, blank = Taken(self.places, self.times, self.stated, self.arrived, numbers, columns), self._blank
        self._new()
        finite = np.isfinite(numbers)
        if finite.size and finite.all():
            return taken
        if (strange := int(numbers.size - np.count_nonzero(finite)) - blank) > 0:
            self._counts.add("not-finite", count=strange)
        numbers[~finite] = np.nan
        bare = ~finite.any(axis=1)
        for column in columns:
            bare &= np.array([not level for level in column.levels])[column.codes]
        if not bare.any():
            return taken
        self._counts.add("empty", count=int(np.count_nonzero(bare)))
        return None if bare.all() else taken.take(np.flatnonzero(~bare))

    def append(self, place: int, numbers: Sequence[Any], texts: Sequence[str], time: float | None, at: float, ordered: bool = True) -> None:
        """Take a row.

        Parameters
        ----------
        place
            Of its device.
        numbers, texts
            Its values; what is no number is counted, and becomes NaN.
        time
            Seconds since 1970 that it says; None: it does not.
        at
            When it arrived.
        ordered
            Whether its time tells it from others.
        """
        try:
            self._cells += self._pack(*numbers)
        except (struct.error, OverflowError):
            self._cells += self._pack(*(self.number(value, blank=True) for value in numbers))
        self.places.append(place)
        self.times.append(at if time is None else time)
        self.arrived.append(at)
        self.stated.append(time is not None and ordered)
        if self._columns:
            self._texts.append(texts)

    def extend(self, place: int, rows: Sequence[Sequence[Any]], at: float) -> None:
        """Take rows of numbers of one device that arrived together and say no time; see `append`."""
        try:
            self._cells += b"".join([self._pack(*numbers) for numbers in rows])
        except (struct.error, OverflowError):
            for numbers in rows:
                self.append(place, numbers, (), None, at)
            return
        count = len(rows)
        self.places += [place] * count
        self.times += [at] * count
        self.arrived += [at] * count
        self.stated += [False] * count

    def number(self, value: Any, blank: bool = False) -> float:
        """Return a value as a number; NaN, counted, where it is none."""
        if isinstance(value, bool | int | float):
            try:
                return float(value)
            except OverflowError:
                return math.inf
        self._counts.add("missing-field" if value is None else "wrong-type", value)
        self._blank += blank
        return math.nan

    def category(self, value: Any) -> str | None:
        """Return a value as text; None, counted, where it is none."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str | int | float):
            return str(value)[:LONGEST].encode(errors="replace").decode()
        self._counts.add("missing-field" if value is None else "wrong-type", value)
        return None
