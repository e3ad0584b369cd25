"""Which nodes are alike: distances between their weights, and the nearest peers of each."""

from __future__ import annotations

import numpy as np

from vedette.message import Array

__all__ = ["distances", "nearest_of"]

BLOCK = 4096
"""Parameters multiplied at once."""


def distances(matrix: Array) -> Array:
    """Return how far each node's weights are from each other's: Euclidean distance over cosine (MTAD-FL, eqs. 13-15).

    Memory beside the matrix: a block of it in float64 (`BLOCK` parameters of each node) and three [nodes, nodes] arrays.

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
    nodes, parameters = matrix.shape
    products = np.zeros((nodes, nodes))
    for start in range(0, parameters, BLOCK):
        block = matrix[:, start : start + BLOCK].astype(np.float64)
        products += block @ block.T
    squares = np.diag(products)
    apart = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = products / np.sqrt(squares[:, None] * squares)
        found = np.where(cosine > 0, apart / cosine, np.inf)
    np.fill_diagonal(found, np.inf)
    return np.asarray((found + found.T) / 2)


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
