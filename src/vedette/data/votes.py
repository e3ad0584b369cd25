"""What can be told of a node's numbers in a vector of bounded length, so that noise on the mean of many hides any one node."""

from __future__ import annotations

import numpy as np

from vedette.data.summaries import Moments
from vedette.message import Array

__all__ = ["CENTRES", "SPREADS", "centre_votes", "centres_of", "level_of", "level_votes", "spread_votes", "spreads_of"]

SMALLEST, LARGEST = -20, 40
"""Powers of two between which standard deviations are told apart."""

FARTHEST = 64
"""Standard deviations between 0 and the outermost mean that is told apart."""

SPREADS, CENTRES = LARGEST - SMALLEST + 2, 2 * FARTHEST + 1
"""Bins that votes are given for."""

LEVELS, LOW, HIGH = 24, 1e-4, 1e4
"""Bins of the logarithms of levels of scores, and their ends: more would be no more exact, because each gets noise of its own."""

CLEAR = 4.0
"""Standard deviations of the noise that votes must come to, so that they are told from it among some thousand bins."""


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
    """Return [columns] float64, the spread that most nodes voted for, of [bins, columns] mean votes with noise; 0 where none varies.

    Where no votes stand out from the noise it is 1: the column stays as it is, which is better than a spread drawn by chance.
    """
    # Nodes that are alike may vote for two bins that lie side by side.
    pairs = shares[1:-1] + shares[2:]
    best = pairs.argmax(axis=0)
    columns = np.arange(shares.shape[1])
    low, high = np.maximum(shares[1 + best, columns], 0), np.maximum(shares[2 + best, columns], 0)
    power = best + SMALLEST + 0.5 + high / np.maximum(low + high, 1e-12)
    most = np.maximum(shares[0], pairs.max(axis=0))
    return np.where(most < _clear(shares) * np.sqrt(2), 1.0, np.where(shares[0] == most, 0.0, 2.0**power))


def centre_votes(values: Array, spreads: Array) -> Array:
    """Return [bins, columns] float64, one vote for each column: where the mean of its [rows, columns] lies, in spreads."""
    moments = Moments.of(values)
    places = np.clip(np.rint(moments.mean / np.where(spreads > 0, spreads, 1.0)), -FARTHEST, FARTHEST) + FARTHEST
    return _votes(places, CENTRES, (moments.count > 0) & (spreads > 0))


def centres_of(shares: Array, spreads: Array) -> Array:
    """Return [columns] float64, the mean that most nodes voted for, of [bins, columns] mean votes with noise; 0 where none stands out."""
    places, most = _peaks(shares)
    return np.where(most < _clear(shares) * np.sqrt(3), 0.0, (places - FARTHEST) * spreads)


def level_votes(level: float) -> Array:
    """Return [LEVELS] float64, one vote for the bin of a level of scores; those beyond vote for the outermost."""
    place = np.floor(np.log(max(level, LOW) / LOW) / np.log(HIGH / LOW) * LEVELS)
    return _votes(np.clip([place], 0, LEVELS - 1), LEVELS, np.array([True]))[:, 0]


def level_of(shares: Array) -> float:
    """Return the level that most nodes voted for, of [LEVELS] mean votes with noise."""
    places, _ = _peaks(shares[:, None])
    return float(LOW * (HIGH / LOW) ** ((places[0] + 0.5) / LEVELS))


def _votes(places: Array, bins: int, known: Array) -> Array:
    votes = np.zeros((bins, len(places)))
    votes[places.astype(np.int64), np.arange(len(places))] = known
    return votes


def _peaks(shares: Array) -> tuple[Array, Array]:
    """Return the middle of the three bins side by side that got most votes, and how many, both [columns]."""
    padded = np.pad(np.maximum(shares, 0), ((1, 1), (0, 0)))
    best = (padded[:-2] + padded[1:-1] + padded[2:]).argmax(axis=0)
    around = np.stack([padded[best + step, np.arange(shares.shape[1])] for step in range(3)])
    most = around.sum(axis=0)
    return best + (around[2] - around[0]) / np.maximum(most, 1e-12), most


def _clear(shares: Array) -> float:
    """Return what a bin must come to; most are empty, so they hold noise alone, whose median size is 0.6745 of its deviation."""
    return CLEAR * float(np.median(np.abs(shares))) / 0.6745
