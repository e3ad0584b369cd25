"""What can be told of a node's numbers in a vector of bounded length, so that noise on the mean of many hides any one node."""

from __future__ import annotations

import numpy as np

from vedette.data.summaries import Moments, Sketch
from vedette.message import Array

__all__ = ["CENTRES", "SPREADS", "centre_votes", "centres_of", "histogram_of", "sketch_of", "spread_votes", "spreads_of"]

SMALLEST, LARGEST = -20, 40
"""Powers of two between which standard deviations are told apart."""

FARTHEST = 64
"""Standard deviations between 0 and the outermost mean that is told apart."""

SPREADS, CENTRES = LARGEST - SMALLEST + 2, 2 * FARTHEST + 1
"""Bins that votes are given for."""

BINS, LOW, HIGH = 24, 1e-4, 1e4
"""Of a histogram of the logarithms of scores, and its ends: more bins would be no more exact, because each gets noise of its own."""

FINE, NOMINAL = 50, 1e6
"""Points that stand for a bin, and rows that they are said to be."""


def spread_votes(values: Array) -> Array:
    """Return [bins, columns] float64, one vote for each column: how far its [rows, columns] lie apart; none if nothing is known of it.

    The first bin is for columns that do not vary.
    """
    moments = Moments.of(values)
    spread = np.sqrt(moments.variance)
    constant = spread <= np.maximum(1e-9 * np.abs(moments.mean), 2.0**SMALLEST)
    powers = np.floor(np.log2(np.where(constant, 1.0, spread)))
    return _votes(np.where(constant, 0, np.clip(powers - SMALLEST, 0, LARGEST - SMALLEST) + 1), SPREADS, moments.count > 0)


def spreads_of(shares: Array) -> Array:
    """Return [columns] float64, the spread that most nodes voted for, of [bins, columns] mean votes with noise; 0 where none varies."""
    # Nodes that are alike may vote for two bins that lie side by side.
    pairs = shares[1:-1] + shares[2:]
    best = pairs.argmax(axis=0)
    columns = np.arange(shares.shape[1])
    low, high = np.maximum(shares[1 + best, columns], 0), np.maximum(shares[2 + best, columns], 0)
    power = best + SMALLEST + 0.5 + high / np.maximum(low + high, 1e-12)
    return np.asarray(np.where(shares[0] > pairs.max(axis=0), 0.0, 2.0**power))


def centre_votes(values: Array, spreads: Array) -> Array:
    """Return [bins, columns] float64, one vote for each column: where the mean of its [rows, columns] lies, in spreads."""
    moments = Moments.of(values)
    places = np.clip(np.rint(moments.mean / np.where(spreads > 0, spreads, 1.0)), -FARTHEST, FARTHEST) + FARTHEST
    return _votes(places, CENTRES, (moments.count > 0) & (spreads > 0))


def centres_of(shares: Array, spreads: Array) -> Array:
    """Return [columns] float64, the mean that most nodes voted for, of [bins, columns] mean votes with noise."""
    padded = np.pad(np.maximum(shares, 0), ((1, 1), (0, 0)))
    best = (padded[:-2] + padded[1:-1] + padded[2:]).argmax(axis=0)
    columns = np.arange(shares.shape[1])
    around = np.stack([padded[best + step, columns] for step in range(3)])
    return np.asarray((best - FARTHEST + (around[2] - around[0]) / np.maximum(around.sum(axis=0), 1e-12)) * spreads)


def _votes(places: Array, bins: int, known: Array) -> Array:
    votes = np.zeros((bins, len(places)))
    votes[places.astype(np.int64), np.arange(len(places))] = known
    return votes


def histogram_of(sketch: Sketch) -> Array:
    """Return [BINS] float64, the shares of scores in bins of equal width on a logarithmic scale; what is beyond is in the outermost."""
    places = np.floor(np.log(np.maximum(sketch.middles, LOW) / LOW) / np.log(HIGH / LOW) * BINS)
    counts = np.bincount(np.clip(places, 0, BINS - 1).astype(np.int64), weights=sketch.counts, minlength=BINS)
    return np.asarray(counts / max(counts.sum(), 1.0))


def sketch_of(shares: Array) -> Sketch:
    """Return quantiles of [BINS] mean shares with noise: their sum rises from 0 to 1, straight within each bin."""
    total = np.clip(np.maximum.accumulate(np.cumsum(shares)), 0, None)
    total = np.minimum.accumulate(np.minimum(total, 1.0)[::-1])[::-1] if total[-1] > 0 else np.ones(BINS)
    masses = np.diff(np.concatenate([[0.0], total / total[-1]]))
    points = LOW * (HIGH / LOW) ** ((np.arange(BINS * FINE) + 0.5) / (BINS * FINE))
    counts = np.repeat(masses, FINE) * (NOMINAL / FINE)
    # The points lie farther apart than the sketch's bins.
    return Sketch(Sketch.of(points[counts > 0]).bins, counts[counts > 0])
