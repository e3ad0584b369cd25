"""Long series in few points."""

from __future__ import annotations

import numpy as np

from vedette.message import Array

__all__ = ["bin_starts", "decimate"]


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
