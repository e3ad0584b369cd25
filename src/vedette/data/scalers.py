"""Number scalers: a step on each number column, fitted from statistics that merge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from statistics import NormalDist
from typing import ClassVar

import numpy as np

from vedette.data.summaries import Extremes, Moments, Points, normal_shares
from vedette.message import Array
from vedette.registry import Registry

__all__ = ["SCALERS", "MinMax", "NumberScaler", "Quantile", "Standard", "Unscaled"]


class NumberScaler(ABC):
    """A growing function of each number column.

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
    def fitted(self, table: Array) -> Array:
        """Return what `apply` needs, [k, columns] float64, of a summary."""

    @abstractmethod
    def apply(self, values: Array, fitted: Array) -> Array:
        """Scale values [rows, columns]; NaN stays NaN. A constant column becomes 0, and 1 when it doubles."""

    @abstractmethod
    def undo(self, scaled: Array, fitted: Array) -> Array:
        """Inverse of `apply`."""

    @abstractmethod
    def seen(self, table: Array) -> Array:
        """Tell the columns that had a value at all, [columns] bool."""

    @abstractmethod
    def constant(self, table: Array) -> Array:
        """Tell the columns that had one value only, [columns] bool."""

    def line(self, fitted: Array) -> tuple[Array, Array] | None:
        """Return shift and scale, [columns] float64 each, if `apply` is ``(x - shift) / scale``; else None."""
        return None

    def middles(self, fitted: Array, constant: Array) -> Array:
        """Return [columns] float64, what stands for a missing value once scaled; `constant` tells columns that had one value only."""
        return np.where(constant, 0.0, self.middle)


class _Affine(NumberScaler, ABC):
    """Base of ``(x - shift) / scale``; both make what is fitted."""

    def apply(self, values: Array, fitted: Array) -> Array:
        shift, scale = fitted
        return np.asarray((values - shift) / scale)

    def undo(self, scaled: Array, fitted: Array) -> Array:
        shift, scale = fitted
        return np.asarray(scaled * scale + shift)

    def line(self, fitted: Array) -> tuple[Array, Array] | None:
        return fitted[0], fitted[1]


class MinMax(_Affine):
    """To [0, 1] by the smallest and largest training value."""

    middle: ClassVar[float] = 0.5

    def summary(self, values: Array) -> Array:
        return Extremes.of(values).table()

    def merged(self, tables: Sequence[Array]) -> Array:
        return Extremes.merged(Extremes.from_table(table) for table in tables).table()

    def fitted(self, table: Array) -> Array:
        low, high = table
        return np.stack([low, np.where(high > low, high - low, _unit(low))])

    def seen(self, table: Array) -> Array:
        return np.asarray(np.isfinite(table[0]))

    def constant(self, table: Array) -> Array:
        return np.asarray(table[0] == table[1])


class Standard(_Affine):
    """To mean 0 and standard deviation 1 of the training values."""

    middle: ClassVar[float] = 0.0

    def summary(self, values: Array) -> Array:
        return Moments.of(values).table()

    def merged(self, tables: Sequence[Array]) -> Array:
        return Moments.merged(Moments.from_table(table) for table in tables).table()

    def fitted(self, table: Array) -> Array:
        moments = Moments.from_table(table)
        return np.stack([moments.mean, np.where(self.constant(table), _unit(moments.mean), np.sqrt(moments.variance))])

    def seen(self, table: Array) -> Array:
        return np.asarray(table[0] > 0)

    def constant(self, table: Array) -> Array:
        moments = Moments.from_table(table)
        # Rounding leaves a trace of variance in a constant column.
        return np.asarray(np.sqrt(moments.variance) <= 1e-12 * np.abs(moments.mean))


class Unscaled(Standard):
    """As they are, to see what scaling is worth: networks learn badly from numbers of many sizes."""

    def fitted(self, table: Array) -> Array:
        return np.stack([Moments.from_table(table).mean, np.ones(table.shape[1])])

    def apply(self, values: Array, fitted: Array) -> Array:
        return np.asarray(values, dtype=np.float64)

    def undo(self, scaled: Array, fitted: Array) -> Array:
        return np.asarray(scaled, dtype=np.float64)

    def line(self, fitted: Array) -> tuple[Array, Array] | None:
        return np.zeros(fitted.shape[1]), np.ones(fitted.shape[1])

    def middles(self, fitted: Array, constant: Array) -> Array:
        return np.asarray(fitted[0])


class Quantile(NumberScaler):
    """To a normal distribution by rank among the training values: what is rare is far from 0, whatever its size.

    The smallest and the largest training value become -4 and 4; beyond them it goes on in a straight line, 8 for the training range.
    Equal values share the rank of their middle. What travels are up to 258 of a node's values of each feature, with their counts.
    """

    middle: ClassVar[float] = 0.0

    def summary(self, values: Array) -> Array:
        return Points.of(values).table()

    def merged(self, tables: Sequence[Array]) -> Array:
        return Points.merged(Points.from_table(table) for table in tables).table()

    def fitted(self, table: Array) -> Array:
        points = Points.from_table(table)
        shares = (np.cumsum(points.weights, axis=0) - points.weights / 2) / np.maximum(points.weights.sum(axis=0), 1)
        inside = np.clip(shares, *normal_shares(np.array([-Points.REACH, Points.REACH])))
        scaled = np.vectorize(NormalDist().inv_cdf)(inside)
        last = (points.weights > 0).sum(axis=0) - 1
        scaled[0] = -Points.REACH
        scaled[last, np.arange(len(last))] = Points.REACH
        return np.concatenate([points.values, scaled])

    def apply(self, values: Array, fitted: Array) -> Array:
        points, scaled = np.split(fitted, 2)
        found = np.empty(values.shape)
        for place, (column, knots, heights) in enumerate(zip(values.T, points.T, scaled.T, strict=True)):
            used = int(np.isfinite(knots).sum())
            low, high = knots[0], knots[used - 1]
            if used == 1:
                found[:, place] = (column - low) / _unit(low)
                continue
            inside = np.interp(column, knots[:used], heights[:used])
            beyond = np.where(column > high, column - high, np.minimum(column - low, 0))
            found[:, place] = inside + beyond * (2 * Points.REACH / (high - low))
        return found

    def undo(self, scaled: Array, fitted: Array) -> Array:
        points, heights = np.split(fitted, 2)
        found = np.empty(scaled.shape)
        for place, (column, knots, scales) in enumerate(zip(scaled.T, points.T, heights.T, strict=True)):
            used = int(np.isfinite(knots).sum())
            low, high = knots[0], knots[used - 1]
            if used == 1:
                found[:, place] = column * _unit(low) + low
                continue
            inside = np.interp(column, scales[:used], knots[:used])
            beyond = np.where(column > Points.REACH, column - Points.REACH, np.minimum(column + Points.REACH, 0))
            found[:, place] = inside + beyond * ((high - low) / (2 * Points.REACH))
        return found

    def seen(self, table: Array) -> Array:
        return np.asarray(Points.from_table(table).weights[0] > 0)

    def constant(self, table: Array) -> Array:
        return np.asarray((Points.from_table(table).weights > 0).sum(axis=0) == 1)


def _unit(value: Array) -> Array:
    """Return the size of a constant value, so that a doubled one is 1 away; 1 where it is 0."""
    return np.where(value == 0, 1.0, np.abs(value))


SCALERS: Registry[type[NumberScaler]] = Registry(
    "scaler",
    {
        "min-max": f"{__name__}:MinMax",
        "standard": f"{__name__}:Standard",
        "quantile": f"{__name__}:Quantile",
        "none": f"{__name__}:Unscaled",
    },
)
