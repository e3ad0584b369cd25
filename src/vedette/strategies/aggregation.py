"""Aggregators: how several updates become one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, TypeAlias

import numpy as np
from pydantic import Field

from vedette.message import Array, Vector
from vedette.registry import Registry
from vedette.settings import Settings, named
from vedette.strategies.base import View

__all__ = ["AGGREGATORS", "Aggregator", "AnyAggregator", "Mean", "Median", "TrimmedMean"]


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

    def combined(self, view: View, channel: str) -> Vector:
        """Aggregate one channel of the answers, weighted by their rows."""
        nodes, matrix = view.each(channel)
        rows = view.facts("rows")
        weights = np.array([float(rows[node]) for node in nodes])
        return Vector(self(matrix.astype(np.float64), weights).astype(np.float32), view.layout(channel))


class Mean(Aggregator):
    """Mean weighted by rows (FedAvg, McMahan et al. 2017, algorithm 1)."""

    gathers: ClassVar[bool] = False

    def __call__(self, matrix: Array, weights: Array) -> Array:
        return np.asarray(weights @ matrix / weights.sum())

    def combined(self, view: View, channel: str) -> Vector:
        return view.mean(channel)


class Median(Aggregator):
    """Coordinate-wise median, every node counting the same (Yin et al. 2018, definition 1)."""

    def __call__(self, matrix: Array, weights: Array) -> Array:
        return np.asarray(np.median(matrix, axis=0))


class TrimmedMean(Aggregator):
    """Coordinate-wise mean without the largest and the smallest `share` of the nodes (Yin et al. 2018, definition 2).

    Parameters
    ----------
    share
        Left out at each end: that many nodes, rounded down, but at least one of three or more.
    """

    share: float = Field(default=0.1, ge=0, lt=0.5)

    def __call__(self, matrix: Array, weights: Array) -> Array:
        # At least one node at each end, where that leaves any; 0.29 of 100 is 29, though the product is 28.999…
        cut = math.floor(self.share * len(matrix) + 1e-9)
        cut = max(cut, 1) if self.share and len(matrix) > 2 else cut
        ordered = np.sort(matrix, axis=0)
        return np.asarray(ordered[cut : len(matrix) - cut].mean(axis=0))


AGGREGATORS: Registry[type[Aggregator]] = Registry(
    "aggregator", {"mean": f"{__name__}:Mean", "median": f"{__name__}:Median", "trimmed-mean": f"{__name__}:TrimmedMean"}
)

AnyAggregator: TypeAlias = Annotated[Aggregator, *named(AGGREGATORS)]
