"""A table of telemetry: numbers, categories and what is known of each row, in NumPy alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeVar, overload

import numpy as np

from vedette.data.stored import Matrix, Stored, numbered, stacked
from vedette.errors import DataUnusable, UnknownName
from vedette.message import Array
from vedette.registry import suggestion

__all__ = ["Coded", "Feature", "Table", "concat"]

C = TypeVar("C")

CHUNK = 65_536
"""Rows that are gone through at once, unless somebody wants fewer or more."""


class Coded(NamedTuple):
    """A column of text, coded.

    Attributes
    ----------
    codes
        [rows] int32, indices into `levels`.
    levels
        The distinct texts.
    """

    codes: Array
    levels: tuple[str, ...]

    def take(self, rows: Array | slice) -> Coded:
        """Return the column of some rows."""
        return Coded(self.codes[rows], self.levels)

    def texts(self) -> list[str]:
        """Return the column as text, one entry a row."""
        return [self.levels[code] for code in self.codes]

    def places(self, known: Sequence[str]) -> Array:
        """Return [rows] int64, the place of each row's text among some known ones; ``len(known)`` if it is none of them."""
        at = {level: i for i, level in enumerate(known)}
        return np.array([at.get(level, len(known)) for level in self.levels], dtype=np.int64)[self.codes]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Coded:
        """Code a column of text; levels are sorted."""
        levels, codes = np.unique(np.asarray(list(texts), dtype=np.str_), return_inverse=True)
        return cls(codes.astype(np.int32), tuple(str(level) for level in levels))

    @classmethod
    def concat(cls, columns: Sequence[Coded]) -> Coded:
        """Put columns below each other; levels are merged and sorted (a single column stays as it is)."""
        if len(columns) == 1:
            return columns[0]
        levels = sorted({level for column in columns for level in column.levels})
        return cls(np.concatenate([column.places(levels) for column in columns]).astype(np.int32), tuple(levels))


@dataclass(frozen=True)
class Feature:
    """One input column: its name, whether it holds numbers or categories, and its physical unit ("" if none)."""

    name: str
    kind: Literal["number", "category"] = "number"
    unit: str = ""


class _Numbers:
    """The field of a table that holds a matrix and hands it out as an array, read when it lies on disk."""

    @overload
    def __get__(self, table: None, kind: type[Table]) -> _Numbers: ...

    @overload
    def __get__(self, table: Table, kind: type[Table]) -> Array: ...

    def __get__(self, table: Table | None, kind: type[Table]) -> _Numbers | Array:
        if table is None:
            raise AttributeError("numbers")  # a field without a default
        matrix = table.matrix
        return matrix.array() if isinstance(matrix, Stored) else matrix

    def __set__(self, table: Table, matrix: Matrix) -> None:
        table.__dict__["numbers"] = matrix


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of telemetry, immutable; the arrays may be memory-mapped.

    Numbers may lie on disk (`Stored`): taking rows or features out then reads nothing. They are read each time `numbers` is asked for,
    so large tables are gone through in `chunks`.

    Parameters
    ----------
    features
        What the columns are, in order.
    numbers
        [rows, number features] float32 or float64, in the order the number features have in `features`; NaN = missing. An array
        comes out, whatever was given; `matrix` is what was given.
    categories
        One `Coded` column for each category feature, in order.
    label
        [rows] int8, 1 = anomaly; None if unknown.
    kind
        The kind of each anomaly (attack type, fault), if known.
    change
        [rows] int8, 1 = a change begins here (a fault sets in, grows, ends); None if unknown.
    group
        Where each row belongs by nature (device, machine, experiment), if known. Rows of a group stand together in time order.
    time
        [rows] float64 seconds, if known.
    place
        [rows] int, where each row stood in its recording: rows of a group whose places follow each other stood next to each other.
        None: as the rows stand here. Kept when rows are taken out, so that a window never spans what is missing.

    Raises
    ------
    DataUnusable
        The columns differ in length.
    """

    features: tuple[Feature, ...]
    numbers: _Numbers = _Numbers()
    categories: tuple[Coded, ...] = ()
    label: Array | None = None
    kind: Coded | None = None
    change: Array | None = None
    group: Coded | None = None
    time: Array | None = None
    place: Array | None = None

    def __post_init__(self) -> None:
        texts = self.category_features
        numbers = len(self.features) - len(texts)
        if self.matrix.ndim != 2 or self.matrix.shape[1] != numbers:
            raise DataUnusable(f"a table of {numbers} number features cannot hold an array of shape {self.matrix.shape}")
        if len(self.categories) != len(texts):
            raise DataUnusable(f"{len(texts)} category features, but {len(self.categories)} columns of them")
        columns = [(feature.name, column.codes) for feature, column in zip(texts, self.categories, strict=True)]
        columns += [(name, column.codes) for name, column in (("kind", self.kind), ("group", self.group)) if column is not None]
        known = (("label", self.label), ("change", self.change), ("time", self.time), ("place", self.place))
        columns += [(name, column) for name, column in known if column is not None]
        for name, column in columns:
            if len(column) != len(self):
                raise DataUnusable(f"'{name}' has {len(column)} rows where the numbers have {len(self)}")

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def nbytes(self) -> int:
        """Bytes that its arrays take in memory, or would if they were not on disk."""
        size = len(self) * self.matrix.shape[1] * self.matrix.dtype.itemsize
        columns = (self.label, self.change, self.time, self.place, *(column.codes for column in self.categories))
        return size + sum(column.nbytes for column in columns if column is not None)

    @property
    def matrix(self) -> Matrix:
        """The numbers where they lie: an array, or `Stored`."""
        matrix: Matrix = self.__dict__["numbers"]
        return matrix

    @property
    def number_features(self) -> tuple[Feature, ...]:
        """The features that are numbers, in the order of `numbers`."""
        return tuple(feature for feature in self.features if feature.kind == "number")

    @property
    def category_features(self) -> tuple[Feature, ...]:
        """The features that are categories, in the order of `categories`."""
        return tuple(feature for feature in self.features if feature.kind == "category")

    @classmethod
    def from_array(cls, x: Array, y: Array | None = None, names: Sequence[str] | None = None) -> Table:
        """Wrap an array of numbers.

        Parameters
        ----------
        x
            [rows, features], any real dtype.
        y
            [rows] of 0 and 1, or None.
        names
            Feature names; ``x0, x1, …`` if absent.
        """
        x = np.asarray(x)
        if x.ndim != 2:
            raise DataUnusable(f"expected an array [rows, features], got shape {x.shape}")
        names = names if names is not None else [f"x{i}" for i in range(x.shape[1])]
        label = None if y is None else np.asarray(y).astype(np.int8)
        return cls(tuple(Feature(name) for name in names), x, label=label)

    def take(self, rows: Array | slice) -> Table:
        """Return some rows, by index, mask or slice."""
        return replace(
            self,
            numbers=self.matrix.take(rows) if isinstance(self.matrix, Stored) else self.matrix[rows],
            categories=tuple(column.take(rows) for column in self.categories),
            label=None if self.label is None else self.label[rows],
            kind=None if self.kind is None else self.kind.take(rows),
            change=None if self.change is None else self.change[rows],
            group=None if self.group is None else self.group.take(rows),
            time=None if self.time is None else self.time[rows],
            place=self._places(rows),
        )

    def _places(self, rows: Array | slice) -> Array | None:
        if self.place is not None:
            return self.place[rows]
        if isinstance(rows, slice) and rows.step in (None, 1):
            return None
        return numbered(rows, len(self))

    def select(self, names: Sequence[str]) -> Table:
        """Return the table with only the named features, in the order of `names`.

        Raises
        ------
        UnknownName
            A name that is no feature, with the nearest one.
        """
        known = {feature.name: feature for feature in self.features}
        for name in names:
            if name not in known:
                raise UnknownName(f"unknown feature '{name}'; {suggestion(name, known)}")
        features = tuple(known[name] for name in names)
        number_at = {feature.name: i for i, feature in enumerate(self.number_features)}
        category_at = {feature.name: i for i, feature in enumerate(self.category_features)}
        chosen = [number_at[f.name] for f in features if f.kind == "number"]
        return replace(
            self,
            features=features,
            numbers=self.matrix.select(chosen) if isinstance(self.matrix, Stored) else self.matrix[:, chosen],
            categories=tuple(self.categories[category_at[f.name]] for f in features if f.kind == "category"),
        )

    def column(self, name: str) -> Coded:
        """Return a category feature, or the `kind` or `group` of the rows, by name.

        Raises
        ------
        UnknownName
            No such column.
        """
        columns = {feature.name: column for feature, column in zip(self.category_features, self.categories, strict=True)}
        columns |= {name: column for name, column in (("kind", self.kind), ("group", self.group)) if column is not None}
        if name not in columns:
            raise UnknownName(f"no category column '{name}'; {suggestion(name, columns)}")
        return columns[name]

    def normal(self) -> Table:
        """Return the rows not labelled as anomalies (all of them if there are no labels)."""
        return self if self.label is None or not self.label.any() else self.take(np.flatnonzero(self.label == 0))

    def chunks(self, size: int = CHUNK) -> Iterator[Table]:
        """Yield the rows in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))

    def blocks(self, size: int) -> Iterator[tuple[slice, Array]]:
        """Yield the places and numbers of the rows in order, `size` at a time; what lies on disk is read in larger pieces."""
        piece = -(-CHUNK // size) * size if isinstance(self.matrix, Stored) else max(len(self), 1)
        for first in range(0, len(self), piece):
            numbers = self.matrix.take(slice(first, first + piece)).array() if isinstance(self.matrix, Stored) else self.matrix
            for start in range(0, len(numbers), size):
                part = numbers[start : start + size]
                yield slice(first + start, first + start + len(part)), part


def concat(tables: Sequence[Table]) -> Table:
    """Stack tables of the same features; levels of categories are merged.

    Raises
    ------
    DataUnusable
        No table, or features that differ.
    """
    if not tables:
        raise DataUnusable("no table to stack")
    first = tables[0]
    if any(table.features != first.features for table in tables):
        raise DataUnusable("tables with different features cannot be stacked")
    if len(tables) == 1:
        return first
    return Table(
        features=first.features,
        numbers=stacked([table.matrix for table in tables]),
        categories=tuple(Coded.concat(columns) for columns in zip(*(table.categories for table in tables), strict=True)),
        label=_if_all_known(np.concatenate, [table.label for table in tables]),
        kind=_if_all_known(Coded.concat, [table.kind for table in tables]),
        change=_if_all_known(np.concatenate, [table.change for table in tables]),
        group=_if_all_known(Coded.concat, [table.group for table in tables]),
        time=_if_all_known(np.concatenate, [table.time for table in tables]),
        place=_places_apart(tables),
    )


def _places_apart(tables: Sequence[Table]) -> Array:
    """Number the rows of stacked tables so that no row of one follows a row of another."""
    parts, start = [], 0
    for table in tables:
        place = np.arange(len(table)) if table.place is None else table.place
        if len(place):
            parts.append(place - place.min() + start)
            start = int(parts[-1].max()) + 2
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _if_all_known(join: Callable[[list[C]], C], columns: Sequence[C | None]) -> C | None:
    """Join a column that every table has; None if one lacks it."""
    known = [column for column in columns if column is not None]
    return join(known) if len(known) == len(columns) else None
