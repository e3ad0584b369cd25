"""Aggregators: how several updates become one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, NamedTuple, TypeAlias

import numpy as np
from pydantic import Field

from vedette.errors import DetectorMisused
from vedette.message import Array, Memory, Vector
from vedette.registry import Registry
from vedette.settings import Settings, named
from vedette.strategies.base import View

__all__ = ["AGGREGATORS", "Aggregator", "AnyAggregator", "Combined", "Gathering", "Mean", "Median", "TrimmedMean", "blocks", "tallied"]

CELLS = 2**18
"""Numbers worked on at once, which fit the cache."""


class Combined(NamedTuple):
    """What came of the answers.

    Attributes
    ----------
    vectors
        By channel.
    counted
        Node -> what share (0 to 1) of its parameters on the first channel went into the result; empty where nodes are not told apart.
    """

    vectors: Mapping[str, Vector]
    counted: Mapping[str, float]


class Aggregator(Settings, ABC):
    """Base of aggregators: functions on [nodes, parameters] with weights [nodes].

    Attributes
    ----------
    gathers
        Whether it must see each node's parameters; if not, they are summed as they come.
    """

    gathers: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, matrix: Array, weights: Array) -> Array:
        """Return [parameters] float64 from [nodes, parameters] and [nodes]."""

    @abstractmethod
    def combined(self, view: View, channels: Sequence[str] = ("model",), by: Mapping[str, float] | None = None) -> Combined:
        """Aggregate channels of the answers, all from the same nodes.

        Parameters
        ----------
        view
            The answers.
        channels
            Which; where nodes are chosen, the first one decides for all.
        by
            Facts that weight a mean, and how much each counts; they add up to 1. The weight of node k is p_k = sum over the facts of
            ``by[fact] * fact_k / sum_j fact_j``: ``{"variance": 0.8, "rows": 0.2}`` is eq. 6 of Wang et al. 2021. None: rows alone.
            Aggregators that gather count every node the same and do not read what nodes say of themselves.
        """


class Mean(Aggregator):
    """Mean weighted by rows (FedAvg, McMahan et al. 2017, algorithm 1), or by what a strategy says."""

    gathers: ClassVar[bool] = False

    def __call__(self, matrix: Array, weights: Array) -> Array:
        total = np.empty(matrix.shape[1])
        for block in blocks(matrix):
            total[block] = weights @ matrix[:, block]
        return np.asarray(total / weights.sum())

    def combined(self, view: View, channels: Sequence[str] = ("model",), by: Mapping[str, float] | None = None) -> Combined:
        shares = by or {"rows": 1.0}
        vectors = {}
        for channel in channels:
            means = {fact: view.mean(channel, fact) for fact in shares}
            values = sum(share * means[fact].values.astype(np.float64) for fact, share in shares.items())
            vectors[channel] = Vector(np.asarray(values).astype(np.float32), view.layout(channel))
        return Combined(vectors, {})


class Gathering(Aggregator):
    """Base of aggregators that see each node's parameters, and count every node the same."""

    @abstractmethod
    def joined(self, matrices: Sequence[Array]) -> tuple[list[Array], Array]:
        """Aggregate several matrices of the same nodes.

        Parameters
        ----------
        matrices
            Each [nodes, parameters] float32 or float64, finite; at least one.

        Returns
        -------
        tuple
            A vector [parameters] float64 of each, and [nodes] float64: the share of each node in the first.
        """

    def __call__(self, matrix: Array, weights: Array) -> Array:
        return self.joined([matrix])[0][0]

    def combined(self, view: View, channels: Sequence[str] = ("model",), by: Mapping[str, float] | None = None) -> Combined:
        gathered = {channel: view.each(channel) for channel in channels}
        # Who leaves a channel out takes part in none: rows of all matrices are the same nodes.
        nodes = sorted(set.intersection(*(set(senders) for senders, _ in gathered.values())))
        if not nodes:
            raise DetectorMisused(f"no node sends all of the channels {', '.join(channels)}")
        matrices = [
            matrix if list(senders) == nodes else matrix[[list(senders).index(node) for node in nodes]]
            for senders, matrix in gathered.values()
        ]
        found, shares = self.joined(matrices)
        vectors = {
            channel: Vector(values.astype(np.float32), view.layout(channel)) for channel, values in zip(channels, found, strict=True)
        }
        return Combined(vectors, dict(zip(nodes, map(float, shares), strict=True)))


class Median(Gathering):
    """Coordinate-wise median (Yin et al. 2018, definition 1).

    A node counts where its value is the middle one, or one of the two whose mean is taken.
    """

    def joined(self, matrices: Sequence[Array]) -> tuple[list[Array], Array]:
        return _between(matrices, (len(matrices[0]) - 1) // 2)


class TrimmedMean(Gathering):
    """Coordinate-wise mean without the largest and the smallest `share` of the nodes (Yin et al. 2018, definition 2).

    A node counts where its value lies in the range that is kept.

    Parameters
    ----------
    share
        Left out at each end: that many nodes, rounded down, but at least one of three or more.
    """

    share: float = Field(default=0.1, ge=0, lt=0.5)

    def joined(self, matrices: Sequence[Array]) -> tuple[list[Array], Array]:
        # At least one node at each end, where that leaves any; 0.29 of 100 is 29, though the product is 28.999…
        nodes = len(matrices[0])
        cut = math.floor(self.share * nodes + 1e-9)
        return _between(matrices, max(cut, 1) if self.share and nodes > 2 else cut)


def _between(matrices: Sequence[Array], cut: int) -> tuple[list[Array], Array]:
    """Return the means of each column without `cut` values at each end, and how often each node is within them in the first matrix."""
    nodes = len(matrices[0])
    inside = np.zeros(nodes)
    found = []
    for number, matrix in enumerate(matrices):
        middle = np.empty(matrix.shape[1])
        for block in blocks(matrix):
            columns = matrix[:, block]
            # Columns laid out as rows: sorting these is twice as fast as np.partition, and needs no copy in float64 (benchmarks/README.md).
            ordered = np.sort(np.ascontiguousarray(columns.T), axis=1)
            middle[block] = ordered[:, cut : nodes - cut].mean(axis=1, dtype=np.float64)
            if number == 0:
                inside += np.count_nonzero((columns >= ordered[:, cut]) & (columns <= ordered[:, nodes - cut - 1]), axis=1)
        found.append(middle)
    return found, inside / max(matrices[0].shape[1], 1)


def blocks(matrix: Array) -> Iterator[slice]:
    """Yield slices of the columns of [nodes, parameters], about `CELLS` numbers each."""
    width = max(CELLS // max(len(matrix), 1), 1)
    for start in range(0, matrix.shape[1], width):
        yield slice(start, start + width)


def tallied(ours: Memory, counted: Mapping[str, float]) -> dict[str, float]:
    """Return who counted how much up to now, for the exchange's memory: low shares name compromised nodes.

    Parameters
    ----------
    ours
        The exchange's memory.
    counted
        This round's, from `Combined`.

    Returns
    -------
    dict
        ``counted.NODE``, the sum over the rounds, and ``turns.NODE``, in how many the node took part; what was tallied before included,
        nothing else of the memory.
    """
    tally = {key: float(value) for key, value in ours.items() if key.startswith(("counted.", "turns.")) and isinstance(value, float | int)}
    for node, share in counted.items():
        tally[f"counted.{node}"] = tally.get(f"counted.{node}", 0.0) + float(share)
        tally[f"turns.{node}"] = tally.get(f"turns.{node}", 0.0) + 1.0
    return tally


AGGREGATORS: Registry[type[Aggregator]] = Registry(
    "aggregator",
    {
        "mean": f"{__name__}:Mean",
        "median": f"{__name__}:Median",
        "trimmed-mean": f"{__name__}:TrimmedMean",
        "krum": "vedette.strategies.krum:Krum",
        "multi-krum": "vedette.strategies.krum:MultiKrum",
    },
)

AnyAggregator: TypeAlias = Annotated[Aggregator, *named(AGGREGATORS)]
