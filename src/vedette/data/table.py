"""A table of telemetry: numbers, categories and what is known of each row, in NumPy alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from vedette.errors import DataUnusable, UnknownName
from vedette.message import Array
from vedette.registry import suggestion

__all__ = ["Coded", "Feature", "Table", "concat"]


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

    @classmethod
    def of(cls, texts: Iterable[str]) -> Coded:
        """Code a column of text; levels are sorted."""
        levels, codes = np.unique(np.asarray(list(texts), dtype=np.str_), return_inverse=True)
        return cls(codes.astype(np.int32), tuple(str(level) for level in levels))


@dataclass(frozen=True)
class Feature:
    """One input column: its name, whether it holds numbers or categories, and its physical unit ("" if none)."""

    name: str
    kind: Literal["number", "category"] = "number"
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of telemetry, immutable; the arrays may be memory-mapped.

    Parameters
    ----------
    features
        What the columns are, in order.
    numbers
        [rows, number features] float32 or float64, in the order the number features have in `features`; NaN = missing.
    categories
        One `Coded` column for each category feature, in order.
    label
        [rows] int8, 1 = anomaly; None if unknown.
    kind
        The kind of each anomaly (attack type, fault), if known.
    group
        Where each row belongs by nature (device, machine, experiment), if known. Rows of a group stand together in time order.
    time
        [rows] float64 seconds, if known.

    Raises
    ------
    DataUnusable
        The columns differ in length.
    """

    features: tuple[Feature, ...]
    numbers: Array
    categories: tuple[Coded, ...] = ()
    label: Array | None = None
    kind: Coded | None = None
    group: Coded | None = None
    time: Array | None = None

    def __post_init__(self) -> None:
        counts = {"categories": [len(c.codes) for c in self.categories], "label": [len(self.label)] if self.label is not None else []}
        counts |= {"kind": [len(self.kind.codes)] if self.kind else [], "group": [len(self.group.codes)] if self.group else []}
        counts["time"] = [len(self.time)] if self.time is not None else []
        if self.numbers.ndim != 2 or self.numbers.shape[1] != len(self.number_features):
            raise DataUnusable(f"a table of {len(self.number_features)} number features cannot hold an array of shape {self.numbers.shape}")
        if len(self.categories) != len(self.category_features):
            raise DataUnusable(f"{len(self.category_features)} category features, but {len(self.categories)} columns of them")
        for name, lengths in counts.items():
            if any(length != len(self) for length in lengths):
                raise DataUnusable(f"'{name}' has {lengths} rows where the numbers have {len(self)}")

    def __len__(self) -> int:
        return len(self.numbers)

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
            numbers=self.numbers[rows],
            categories=tuple(column.take(rows) for column in self.categories),
            label=None if self.label is None else self.label[rows],
            kind=None if self.kind is None else self.kind.take(rows),
            group=None if self.group is None else self.group.take(rows),
            time=None if self.time is None else self.time[rows],
        )

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
        return replace(
            self,
            features=features,
            numbers=self.numbers[:, [number_at[f.name] for f in features if f.kind == "number"]],
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
        return self if self.label is None else self.take(np.flatnonzero(self.label == 0))

    def chunks(self, size: int = 65_536) -> Iterator[Table]:
        """Yield the rows in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))


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
        numbers=np.concatenate([table.numbers for table in tables]),
        categories=tuple(_stack([table.categories[i] for table in tables]) for i in range(len(first.categories))),
        label=_joined([table.label for table in tables]),
        kind=_stack_known([table.kind for table in tables]),
        group=_stack_known([table.group for table in tables]),
        time=_joined([table.time for table in tables]),
    )


def _joined(parts: Sequence[Array | None]) -> Array | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


def _stack_known(columns: Sequence[Coded | None]) -> Coded | None:
    known = [column for column in columns if column is not None]
    return _stack(known) if len(known) == len(columns) else None


def _stack(columns: Sequence[Coded]) -> Coded:
    levels = tuple(sorted({level for column in columns for level in column.levels}))
    at = {level: i for i, level in enumerate(levels)}
    maps = [np.array([at[level] for level in column.levels], dtype=np.int32) for column in columns]
    codes = [to[column.codes] if len(to) else column.codes for to, column in zip(maps, columns, strict=True)]
    return Coded(np.concatenate(codes), levels)
