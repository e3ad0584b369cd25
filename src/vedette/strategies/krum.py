"""Krum and Multi-Krum: only nodes that stand among many others count."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from vedette.message import Array
from vedette.strategies.aggregation import Gathering, blocks
from vedette.strategies.similarity import squared_distances

__all__ = ["Krum", "MultiKrum", "Nearest"]

TIE = 1e-9
"""Scores this near to each other, relatively, are the same but for rounding."""


class Nearest(Gathering):
    """Base of aggregators that choose whole nodes: those with the smallest sum of squared distances to their nearest others.

    Nodes are chosen on the first channel and count on all.

    Parameters
    ----------
    attackers
        How many nodes may send what they like (f). Of n nodes at most (n - 3) / 2, rounded down: where more are asked for, that many are
        withstood and no more. One or two nodes all count: there is no telling which of them is right.
    """

    attackers: int = Field(default=1, ge=0)

    @abstractmethod
    def chosen(self, nodes: int, attackers: int) -> int:
        """Say how many of at least three nodes count, when so many attackers are withstood."""

    def joined(self, matrices: Sequence[Array]) -> tuple[list[Array], Array]:
        best = self.ranked(matrices[0])
        counted = np.zeros(len(matrices[0]))
        counted[best] = 1.0
        found = []
        for matrix in matrices:
            mean = np.empty(matrix.shape[1])
            for block in blocks(matrix):
                mean[block] = matrix[best, block].mean(axis=0, dtype=np.float64)
            found.append(mean)
        return found, counted

    def ranked(self, matrix: Array) -> Array:
        """Return the places of the nodes that count, best first, in [nodes, parameters]; of equal nodes the first comes first."""
        nodes = len(matrix)
        if nodes <= 2:
            return np.arange(nodes)
        attackers = min(self.attackers, (nodes - 3) // 2)
        squared = squared_distances(matrix)
        # Infinitely far from itself, a node is not among its nearest others.
        np.fill_diagonal(squared, np.inf)
        scores = np.sort(squared, axis=1)[:, : nodes - attackers - 2].sum(axis=1)
        order = np.argsort(scores, kind="stable")
        further = scores[order][1:] > scores[order][:-1] * (1 + TIE)
        order = order[np.lexsort((order, np.concatenate([[0], np.cumsum(further)])))]
        return order[: self.chosen(nodes, attackers)]


class Krum(Nearest):
    """The parameters of the one node with the best score (Krum, Blanchard et al. 2017, section 4).

    A node's score is the sum of its squared distances to the n - f - 2 nearest others; the smallest wins.
    """

    def chosen(self, nodes: int, attackers: int) -> int:
        return 1


class MultiKrum(Nearest):
    """The mean of the `m` nodes with the best scores (Multi-Krum, Blanchard et al. 2017).

    Parameters
    ----------
    m
        How many, or all nodes if there are fewer; n - f if absent.
    """

    m: int | None = Field(default=None, ge=1)

    def chosen(self, nodes: int, attackers: int) -> int:
        return nodes - attackers if self.m is None else min(self.m, nodes)
