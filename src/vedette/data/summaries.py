"""Statistics that merge: a fleet's moments, extremes, counts and quantiles without its rows."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from functools import reduce
from statistics import NormalDist

import numpy as np

from vedette.message import Array

__all__ = ["Covariance", "Extremes", "Moments", "Points", "Sketch", "normal_shares"]

GREATEST = np.float64(1e150)
"""Cells beyond this size are no measurements; their squares would not be finite."""


def _known(values: Array) -> Array:
    """Tell the cells that count, bool: neither missing nor absurd."""
    return np.asarray(np.abs(values) <= GREATEST)


class Moments:
    """Count, mean and squared deviation of each column, merged exactly (Chan et al. 1983).

    Parameters
    ----------
    count
        [columns] float64, values seen (missing ones are not).
    mean
        [columns] float64.
    spread
        [columns] float64, sum of squared deviations from the mean.
    """

    def __init__(self, count: Array, mean: Array, spread: Array) -> None:
        self.count, self.mean, self.spread = count, mean, spread

    @classmethod
    def of(cls, values: Array) -> Moments:
        """Summarise [rows, columns]; cells that are NaN, infinite or beyond `GREATEST` are left out."""
        known = _known(values)
        count = known.sum(axis=0).astype(np.float64)
        at_least_one = np.maximum(count, 1)
        mean = np.where(known, values, 0).sum(axis=0, dtype=np.float64) / at_least_one
        spread = (np.where(known, values - mean, 0) ** 2).sum(axis=0, dtype=np.float64)
        return cls(count, mean, spread)

    @classmethod
    def merged(cls, parts: Iterable[Moments]) -> Moments:
        """Merge summaries of disjoint rows."""
        return reduce(operator.add, parts)

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        step = other.mean - self.mean
        return Moments(count, self.mean + step * share, self.spread + other.spread + step**2 * self.count * share)

    def as_of(self, rows: float) -> Moments:
        """Return the same means and variances as if of so many rows: how much they weigh beside others when merged."""
        scale = rows / max(float(self.count.max(initial=0)), 1.0)
        return Moments(self.count * scale, self.mean, self.spread * scale)

    @property
    def variance(self) -> Array:
        """[columns] population variance; 0 where nothing was seen."""
        return np.asarray(self.spread / np.maximum(self.count, 1))

    def table(self) -> Array:
        """Return the summary as [3, columns] float64, to travel."""
        return np.stack([self.count, self.mean, self.spread])

    @classmethod
    def from_table(cls, table: Array) -> Moments:
        """Inverse of `table`."""
        return cls(*np.asarray(table, dtype=np.float64))


class Covariance:
    """Count, mean and products of deviations of rows, merged exactly (Chan et al. 1983).

    Parameters
    ----------
    count
        Rows seen.
    mean
        [columns] float64.
    products
        [columns, columns] float64, sums of products of deviations from the mean.
    """

    def __init__(self, count: float, mean: Array, products: Array) -> None:
        self.count, self.mean, self.products = count, mean, products

    @classmethod
    def of(cls, values: Array) -> Covariance:
        """Summarise [rows, columns] of finite numbers."""
        values = np.asarray(values, dtype=np.float64)
        mean = values.mean(axis=0) if len(values) else np.zeros(values.shape[1])
        centred = values - mean
        return cls(float(len(values)), mean, centred.T @ centred)

    @classmethod
    def merged(cls, parts: Iterable[Covariance]) -> Covariance:
        """Merge summaries of disjoint rows."""
        return reduce(operator.add, parts)

    def __add__(self, other: Covariance) -> Covariance:
        count = self.count + other.count
        share = other.count / max(count, 1.0)
        step = other.mean - self.mean
        products = self.products + other.products + self.count * share * np.outer(step, step)
        return Covariance(count, self.mean + step * share, products)

    def as_of(self, rows: float) -> Covariance:
        """Return the same mean and covariance as if of so many rows: how much they weigh beside others when merged."""
        return Covariance(rows, self.mean, self.matrix * rows)

    @property
    def matrix(self) -> Array:
        """[columns, columns] population covariance; 0 where nothing was seen."""
        return np.asarray(self.products / max(self.count, 1.0))

    def table(self) -> Array:
        """Return the summary as [columns + 2, columns] float64, to travel."""
        return np.concatenate([np.full((1, len(self.mean)), self.count), self.mean[None], self.products])

    @classmethod
    def from_table(cls, table: Array) -> Covariance:
        """Inverse of `table`."""
        table = np.asarray(table, dtype=np.float64)
        return cls(float(table[0, 0]), table[1], table[2:])


class Extremes:
    """Smallest and largest value of each column; +inf and -inf where nothing was seen.

    Parameters
    ----------
    low, high
        [columns] float64.
    """

    def __init__(self, low: Array, high: Array) -> None:
        self.low, self.high = low, high

    @classmethod
    def of(cls, values: Array) -> Extremes:
        """Summarise [rows, columns]; cells that are NaN, infinite or beyond `GREATEST` are left out."""
        low, high = values.min(axis=0, initial=np.inf), values.max(axis=0, initial=-np.inf)
        # A cell that is missing or absurd shows in one of them.
        if not (_known(low) & _known(high)).all():
            known = _known(values)
            low = np.where(known, values, np.inf).min(axis=0, initial=np.inf)
            high = np.where(known, values, -np.inf).max(axis=0, initial=-np.inf)
        return cls(low.astype(np.float64), high.astype(np.float64))

    @classmethod
    def merged(cls, parts: Iterable[Extremes]) -> Extremes:
        """Merge summaries."""
        kept = list(parts)
        return cls(np.min([part.low for part in kept], axis=0), np.max([part.high for part in kept], axis=0))

    def table(self) -> Array:
        """Return the summary as [2, columns] float64, to travel."""
        return np.stack([self.low, self.high])

    @classmethod
    def from_table(cls, table: Array) -> Extremes:
        """Inverse of `table`."""
        return cls(*np.asarray(table, dtype=np.float64))


class Points:
    """The distribution of each column as weighted points: exact while it has few distinct values, else thinned evenly in normal quantiles.

    Parameters
    ----------
    values
        [`MOST`, columns] float64, ascending; +inf where there are no more points.
    weights
        [`MOST`, columns] float64, how many rows each point stands for.
    """

    MOST = 258
    REACH = 4.0
    """Standard deviations of a normal distribution between the middle and the outermost points."""

    def __init__(self, values: Array, weights: Array) -> None:
        self.values, self.weights = values, weights

    @classmethod
    def of(cls, values: Array) -> Points:
        """Summarise [rows, columns]; cells that are NaN, infinite or beyond `GREATEST` are left out."""
        columns = np.asarray(values, dtype=np.float64).T
        return cls._stacked([cls._thinned(*np.unique(column[_known(column)], return_counts=True)) for column in columns])

    @classmethod
    def merged(cls, parts: Iterable[Points]) -> Points:
        """Merge summaries of disjoint rows."""
        kept = list(parts)
        found = []
        for column in range(kept[0].values.shape[1]):
            values, weights = (np.concatenate([each[:, column] for each in arrays]) for arrays in _pairs(kept))
            distinct, place = np.unique(values[weights > 0], return_inverse=True)
            found.append(cls._thinned(distinct, np.bincount(place, weights=weights[weights > 0], minlength=len(distinct))))
        return cls._stacked(found)

    @classmethod
    def _thinned(cls, values: Array, weights: Array) -> tuple[Array, Array]:
        if len(values) <= cls.MOST:
            return values, weights
        # The outermost two stay; of those between that fall into one bin the heaviest stands for all, so that ties stay exact.
        middle = (np.cumsum(weights) - weights / 2) / weights.sum()
        bins = np.searchsorted(normal_shares(np.linspace(-cls.REACH, cls.REACH, cls.MOST - 1)[1:-1]), middle) + 1
        bins[0], bins[-1] = 0, cls.MOST - 1
        heaviest = np.lexsort((weights, bins))
        used, last = np.unique(bins[heaviest][::-1], return_index=True)
        return values[heaviest[::-1][last]], np.bincount(bins, weights=weights, minlength=cls.MOST)[used]

    @classmethod
    def _stacked(cls, columns: Sequence[tuple[Array, Array]]) -> Points:
        values, weights = np.full((cls.MOST, len(columns)), np.inf), np.zeros((cls.MOST, len(columns)))
        for place, (points, counts) in enumerate(columns):
            values[: len(points), place], weights[: len(points), place] = points, counts
        return cls(values, weights)

    def table(self) -> Array:
        """Return the summary as [2 · `MOST`, columns] float64, to travel."""
        return np.concatenate([self.values, self.weights])

    @classmethod
    def from_table(cls, table: Array) -> Points:
        """Inverse of `table`."""
        return cls(*np.split(np.asarray(table, dtype=np.float64), 2))


def normal_shares(deviations: Array) -> Array:
    """Return the shares of a normal distribution below some numbers of standard deviations."""
    return np.array([NormalDist().cdf(each) for each in np.asarray(deviations, dtype=np.float64)])


def _pairs(parts: Sequence[Points]) -> tuple[list[Array], list[Array]]:
    return [part.values for part in parts], [part.weights for part in parts]


class Sketch:
    """Quantiles of non-negative values from counts in logarithmic bins (DDSketch, Masson et al. 2019).

    A quantile is too large by at most twice `ACCURACY` of its value, never too small; merging adds counts, so it loses nothing.

    Parameters
    ----------
    bins
        [used bins] int64, ascending: bin i holds values in (g**(i-1), g**i]; `ZERO` holds values up to `SMALLEST`.
    counts
        [used bins] float64.
    """

    ACCURACY = 0.001
    SMALLEST = 1e-12
    ZERO = -(2**31)
    _GROWTH = (1 + ACCURACY) / (1 - ACCURACY)

    def __init__(self, bins: Array, counts: Array) -> None:
        self.bins, self.counts = bins, counts

    @classmethod
    def of(cls, values: Array) -> Sketch:
        """Summarise [rows] values >= 0; NaN is left out, what is beyond `GREATEST` counts as that."""
        values = np.asarray(values, dtype=np.float64)
        values = np.minimum(values[~np.isnan(values)], GREATEST)
        large = values > cls.SMALLEST
        bins = np.full(len(values), cls.ZERO, dtype=np.int64)
        bins[large] = np.ceil(np.log(values[large]) / math.log(cls._GROWTH))
        used, counts = np.unique(bins, return_counts=True)
        return cls(used, counts.astype(np.float64))

    @classmethod
    def merged(cls, parts: Sequence[Sketch]) -> Sketch:
        """Merge summaries of disjoint rows."""
        used, place = np.unique(np.concatenate([part.bins for part in parts]), return_inverse=True)
        return cls(used, np.bincount(place, weights=np.concatenate([part.counts for part in parts]), minlength=len(used)))

    def quantile(self, share: float) -> float:
        """Return a value that at least `share` of the rows do not exceed: the upper edge of the bin in which the smallest such lies.

        So no more than 1 - `share` of the rows lie above it, ties or not.
        """
        return self.at_rank(share * float(self.counts.sum()))

    @property
    def middles(self) -> Array:
        """[used bins] float64, a value within `ACCURACY` of those of each bin."""
        edges = np.where(self.bins == self.ZERO, 0.0, self._GROWTH ** np.where(self.bins == self.ZERO, 0, self.bins).astype(np.float64))
        return edges * (2 / (1 + self._GROWTH))

    def at_rank(self, rank: float) -> float:
        """Return a value that at least `rank` rows do not exceed: the upper edge of the bin in which the smallest such lies."""
        if not self.counts.sum():
            return math.nan
        at = int(np.searchsorted(np.cumsum(self.counts), rank, side="left"))
        place = int(self.bins[min(at, len(self.bins) - 1)])
        return self.SMALLEST if place == self.ZERO else float(self._GROWTH**place)

    def table(self) -> Array:
        """Return the summary as [2, used bins] float64, to travel."""
        return np.stack([self.bins.astype(np.float64), self.counts])

    @classmethod
    def from_table(cls, table: Array) -> Sketch:
        """Inverse of `table`."""
        return cls(np.asarray(table[0]).astype(np.int64), np.asarray(table[1], dtype=np.float64))
