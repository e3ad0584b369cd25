"""Long series in few points."""

from __future__ import annotations

import numpy as np

from vedette.message import Array

__all__ = ["banded", "bin_starts", "decimate"]


def bin_starts(rows: int, bins: int) -> Array:
    """Return the first row of each of at most `bins` bins of (nearly) equal size."""
    count = min(rows, bins)
    return np.arange(count, dtype=np.int64) * rows // max(count, 1)


def decimate(values: Array, bins: int) -> tuple[Array, Array]:
    """Thin out a series so that every peak survives.

    Parameters
    ----------
    values
        [rows] numbers; NaN counts as absent.
    bins
        How many points may remain.

    Returns
    -------
    starts, highest
        [at most bins] first row of each bin, and the largest value in it.
    """
    starts = bin_starts(len(values), bins)
    return starts, np.fmax.reduceat(values, starts) if len(starts) else values[:0]


def banded(table: Array, bins: int) -> tuple[Array, Array, Array, Array]:
    """Thin out several series of the same length to a line and a band around it.

    Parameters
    ----------
    table
        [series, steps] numbers; NaN counts as absent.
    bins
        How many points may remain.

    Returns
    -------
    starts, mean, low, high
        [at most bins] first step of each bin, the mean of all values in it, the lowest and the highest; NaN where there are none.
    """
    starts = bin_starts(table.shape[1], bins)
    known = np.isfinite(table)
    seen = np.add.reduceat(known.sum(0), starts)
    mean = np.where(seen, np.add.reduceat(np.where(known, table, 0.0).sum(0), starts), np.nan) / np.maximum(seen, 1)
    return starts, mean, np.fmin.reduceat(np.fmin.reduce(table), starts), np.fmax.reduceat(np.fmax.reduce(table), starts)
