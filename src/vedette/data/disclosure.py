"""Disclosure: whether made-up rows give away the real ones, looked at before any of them leaves a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vedette.errors import MissingExtra
from vedette.message import Array

__all__ = ["Disclosure", "check", "membership"]

ROUNDING = 1e-6
"""Share of a row's length up to which float32 may tell a row from its copy; anything nearer is a copy."""

MOST_MEASURED = 2_000
"""Real rows whose nearest ones are looked for, drawn at random; a quantile needs no more."""

FEWEST = 4
"""Real rows from which on two halves can be told apart, or not."""


class Disclosure(NamedTuple):
    """What synthetic rows give away.

    Attributes
    ----------
    safe
        [m] bool, which may leave the node.
    close
        How many may not.
    copies
        How many of these are a real row over again.
    """

    safe: Array
    close: int
    copies: int


def check(made: Array, real: Array, closeness: float, rng: np.random.Generator) -> Disclosure:
    """Tell which synthetic rows may leave a node: those no nearer to a real row than nearly all real rows are to each other.

    The yardstick is how far real rows lie from their nearest that differs, so that rows recorded twice do not shrink it to nothing.
    A copy of a real row never leaves, nor does any row where all real rows are the same.

    Parameters
    ----------
    made
        [m, width] float32, synthetic rows.
    real
        [n, width] float32, the real rows they were made of, scaled alike.
    closeness
        Quantile of the real rows' nearest distances, 0 to 1, below which a synthetic row is too close.
    rng
        Draws the real rows that are measured, if there are many.

    Raises
    ------
    MissingExtra
        scikit-learn is not installed.
    """
    nothing = np.zeros(len(made), dtype=bool)
    if not len(made) or not len(real):
        return Disclosure(nothing, len(made), 0)
    different = np.unique(real, axis=0)
    apart = _distances(made, different)
    copied = apart <= ROUNDING * np.linalg.norm(made.astype(np.float64), axis=1)
    if len(different) == 1:
        return Disclosure(nothing, len(made), int(copied.sum()))
    some = rng.permutation(len(different))[:MOST_MEASURED]
    least = np.quantile(_distances(different[some], different, itself=True), closeness)
    safe = ~copied & (apart >= least)
    return Disclosure(safe, int((~safe).sum()), int(copied.sum()))


def membership(real: Array, make: Callable[[Array], Array], rng: np.random.Generator) -> float | None:
    """Measure how well those who hold synthetic rows can tell which real rows they were made of (a membership inference test).

    Rows are made of a random half of the real ones; both halves are ranked by how near the nearest of these lies.

    Parameters
    ----------
    real
        [n, width] float32, scaled.
    make
        Returns the synthetic rows, [m, width] float32, that would leave if the node had only the rows it is given.
    rng
        Draws the half.

    Returns
    -------
    float or None
        AUC of telling the halves apart: 0.5 gives nothing away, 1 everything. None where it cannot be told, for there are fewer than
        four real rows or nothing would leave.

    Raises
    ------
    MissingExtra
        scikit-learn is not installed.
    """
    if len(real) < FEWEST:
        return None
    used = rng.permutation(len(real)) < len(real) // 2
    made = make(real[used])
    if not len(made):
        return None
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError:
        raise MissingExtra("checking synthetic rows needs scikit-learn: pip install 'vedette[train]'") from None
    return float(roc_auc_score(used, -_distances(real, made)))


def _distances(rows: Array, others: Array, itself: bool = False) -> Array:
    """Return [rows] float64, how far the nearest of `others` is from each; with `itself`, other than the row itself."""
    try:
        from sklearn.neighbors import NearestNeighbors
    except ImportError:
        raise MissingExtra("checking synthetic rows needs scikit-learn: pip install 'vedette[train]'") from None
    found = NearestNeighbors(n_neighbors=1 + itself).fit(others).kneighbors(rows, return_distance=False)
    # Worked out anew, for the search's own distances are those of products, and two rows nearly alike have none.
    gaps = [np.linalg.norm(rows.astype(np.float64) - others[nearest], axis=1) for nearest in found.T]
    # A row's distance to itself is 0, in whatever order the search found it.
    return np.asarray(np.max(gaps, axis=0))
