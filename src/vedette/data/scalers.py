"""Number scalers: affine steps on number columns, fitted from statistics that merge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from vedette.data.summaries import Extremes, Moments
from vedette.message import Array
from vedette.registry import Registry

__all__ = ["SCALERS", "MinMax", "NumberScaler", "Standard"]


class NumberScaler(ABC):
    """An affine step on the number columns: ``(x - shift) / scale``.

    Attributes
    ----------
    middle
        What the middle of the training values becomes.
    """

    middle: ClassVar[float]

    @abstractmethod
    def summary(self, values: Array) -> Array:
        """Return what merging needs, [statistics, columns] float64, of values [rows, columns]."""

    @abstractmethod
    def merged(self, tables: Sequence[Array]) -> Array:
        """Merge summaries of several nodes."""

    @abstractmethod
    def fitted(self, table: Array) -> tuple[Array, Array]:
        """Return shift and scale, [columns] each; a constant column gets scale 1, so that it becomes 0."""

    @abstractmethod
    def seen(self, table: Array) -> Array:
        """Tell the columns that had a value at all, [columns] bool."""

    @abstractmethod
    def constant(self, table: Array) -> Array:
        """Tell the columns that had one value only, [columns] bool."""


class MinMax(NumberScaler):
    """To [0, 1] by the smallest and largest training value."""

    middle: ClassVar[float] = 0.5

    def summary(self, values: Array) -> Array:
        return Extremes.of(values).table()

    def merged(self, tables: Sequence[Array]) -> Array:
        return Extremes.merged(Extremes.from_table(table) for table in tables).table()

    def fitted(self, table: Array) -> tuple[Array, Array]:
        low, high = table
        return low, np.where(high > low, high - low, _unit(low))

    def seen(self, table: Array) -> Array:
        return np.asarray(np.isfinite(table[0]))

    def constant(self, table: Array) -> Array:
        return np.asarray(table[0] == table[1])


class Standard(NumberScaler):
    """To mean 0 and standard deviation 1 of the training values."""

    middle: ClassVar[float] = 0.0

    def summary(self, values: Array) -> Array:
        return Moments.of(values).table()

    def merged(self, tables: Sequence[Array]) -> Array:
        return Moments.merged(Moments.from_table(table) for table in tables).table()

    def fitted(self, table: Array) -> tuple[Array, Array]:
        moments = Moments.from_table(table)
        return moments.mean, np.where(self.constant(table), _unit(moments.mean), np.sqrt(moments.variance))

    def seen(self, table: Array) -> Array:
        return np.asarray(table[0] > 0)

    def constant(self, table: Array) -> Array:
        moments = Moments.from_table(table)
        # Rounding leaves a trace of variance in a constant column.
        return np.asarray(np.sqrt(moments.variance) <= 1e-12 * np.abs(moments.mean))


def _unit(value: Array) -> Array:
    """Return the size of a constant value, so that a doubled one is 1 away; 1 where it is 0."""
    return np.where(value == 0, 1.0, np.abs(value))


SCALERS: Registry[type[NumberScaler]] = Registry("scaler", {"min-max": f"{__name__}:MinMax", "standard": f"{__name__}:Standard"})
