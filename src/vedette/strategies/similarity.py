"""Which nodes are alike: distances between their weights, and the nearest peers of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from vedette.message import Array

__all__ = ["distances", "nearest_of", "squared_distances"]

BLOCK = 4096
"""Parameters multiplied at once."""

ERROR = 2e-6
"""How far a squared distance may be off after products in float32, in units of the squared lengths of the two deviations from the mean."""

FEW = 8
"""Peers a node that are looked at once more, pair by pair in float64; where more are in doubt all products are made in float64."""

CLOSE = 1e-6
"""Below this share of the squared lengths of two deviations, rounding of a product in float64 could show in a squared distance."""


def squared_distances(matrix: Array) -> Array:
    """Return squared Euclidean distances between nodes, right to 1e-6 of each.

    |x|² + |y|² - 2xy by one product in float64 of what nodes deviate from their mean. Nodes so near each other, and so far from the mean,
    that this cancels (attackers who agree, or all others when one is very far off) are looked at once more from among themselves.
    Memory beside the matrix: a block of it in float64 and a few [nodes, nodes] arrays.

    Parameters
    ----------
    matrix
        [nodes, parameters] float32 or float64, finite.

    Returns
    -------
    Array
        [nodes, nodes] float64, symmetric, 0 on the diagonal.
    """
    found = np.zeros((len(matrix), len(matrix)))
    clusters: list[tuple[Array | None, Array]] = [(None, matrix.mean(axis=0, dtype=np.float64))]
    while clusters:
        rows, origin = clusters.pop()
        squared, error, _ = _compared(matrix, origin, np.float64, slice(None) if rows is None else rows)
        places = np.arange(len(matrix)) if rows is None else rows
        found[np.ix_(places, places)] = squared
        close = squared < error * (CLOSE / ERROR)
        np.fill_diagonal(close, False)
        for members in (places[cluster] for cluster in _connected(close)):
            # Seen from one of them, that one is close to none: clusters of clusters come to an end.
            clusters.append((members, matrix[members[0]].astype(np.float64)))
    np.fill_diagonal(found, 0.0)
    return found


def distances(matrix: Array) -> Array:
    """Return how far each node's weights are from each other's: Euclidean distance over cosine (MTAD-FL, eqs. 13-15).

    Products are made in float32, of what nodes deviate from their mean, and summed in float64: twice as fast, and right to 1e-5. Pairs
    that may be nearest are then worked out in float64, so that no rounding chooses a peer. Memory beside the matrix: a block of it
    (`BLOCK` parameters of each node) and a few [nodes, nodes] arrays.

    Parameters
    ----------
    matrix
        [nodes, parameters] float32.

    Returns
    -------
    Array
        [nodes, nodes] float64, symmetric; infinite on the diagonal and where the cosine is not positive: such nodes have nothing in
        common, however near they are.
    """
    mean = matrix.mean(axis=0, dtype=np.float64)
    squared, error, inner = _compared(matrix, mean, np.float32)
    far, near = (_over_cosine(np.maximum(squared + off, 0), inner) for off in (error, -error))
    # Whatever may be as near as the nearest can be far is a candidate.
    doubtful = near <= far.min(axis=1, keepdims=True)
    np.fill_diagonal(doubtful, False)
    doubtful &= np.isfinite(near)
    # A single candidate is no doubt.
    doubtful &= doubtful.sum(axis=1, keepdims=True) > 1
    doubtful |= doubtful.T
    if doubtful.sum() > FEW * len(matrix):
        squared, _, inner = _compared(matrix, mean, np.float64)
        return _over_cosine(squared, inner)
    for one, other in np.argwhere(np.triu(doubtful)):
        a, b = matrix[one].astype(np.float64), matrix[other].astype(np.float64)
        squared[one, other] = squared[other, one] = ((a - b) ** 2).sum()
        inner[one, other] = inner[other, one] = a @ b
    return _over_cosine(squared, inner)


def _connected(close: Array) -> list[Array]:
    """Return the groups of nodes connected by a symmetric [nodes, nodes] bool, each ascending, without nodes that stand alone."""
    left, groups = set(np.flatnonzero(close.any(axis=1)).tolist()), []
    while left:
        group = np.zeros(len(close), dtype=bool)
        group[min(left)] = True
        while (reached := group | close[group].any(axis=0)).sum() > group.sum():
            group = reached
        groups.append(np.flatnonzero(group))
        left -= set(groups[-1].tolist())
    return groups


def _compared(matrix: Array, mean: Array, dtype: type[np.floating[Any]], rows: Array | slice = slice(None)) -> tuple[Array, Array, Array]:
    """Return squared distances, how far they may be off, and inner products of rows, [rows, rows] float64, by products in a dtype."""
    count = len(matrix[rows, :1])
    products, along = np.zeros((count, count)), np.zeros(count)
    for start in range(0, matrix.shape[1], BLOCK):
        middle = mean[start : start + BLOCK]
        block = (matrix[rows, start : start + BLOCK] - middle.astype(dtype)).astype(dtype, copy=False)
        products += block @ block.T
        along += block @ middle.astype(dtype)
    lengths = np.diag(products)
    both = lengths[:, None] + lengths
    # The mean taken away in a dtype is added again as it was taken away.
    taken = mean.astype(dtype).astype(np.float64)
    return np.maximum(both - 2 * products, 0), ERROR * both, products + along[:, None] + along + taken @ taken


def _over_cosine(squared: Array, inner: Array) -> Array:
    """Return distances over cosines, infinite where a cosine is not positive and for a node and itself."""
    lengths = np.sqrt(np.maximum(np.diag(inner), 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.where(inner > 0, inner, 0) / (lengths[:, None] * lengths)
        found = np.where(cosine > 0, np.sqrt(squared) / cosine, np.inf)
    np.fill_diagonal(found, np.inf)
    return np.asarray(found)


def nearest_of(apart: Array, most: int = 1) -> tuple[Array, Array]:
    """Return each node's nearest peers, nearest first, and how much of each it is to get.

    Parameters
    ----------
    apart
        [nodes, nodes], from `distances`; of peers equally far the first comes first.
    most
        How many peers.

    Returns
    -------
    tuple of Array
        [nodes, k] int and [nodes, k] float64, k = `most` or as many peers as there are. Shares go by the inverse of the distance and add
        up to 1; a peer infinitely far gets 0.
    """
    most = min(most, len(apart) - 1)
    order = np.argsort(apart, axis=1, kind="stable")[:, :most]
    far = np.take_along_axis(apart, order, axis=1)
    if not most:
        return order, far
    # Relative to the nearest, so that a distance of 0 takes all without a division by it.
    near = far[:, :1]
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(near > 0, np.where(np.isfinite(far), near / far, 0.0), (far == 0).astype(np.float64))
    total = weight.sum(axis=1, keepdims=True)
    return order, np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
