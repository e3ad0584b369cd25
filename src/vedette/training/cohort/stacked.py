"""What a stack of networks is, wherever it is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from vedette.message import Array
from vedette.training.dense import Dense
from vedette.training.task import Optimiser

__all__ = ["Stacked", "state_of"]


class Stacked(ABC):
    """Networks of the same shape, [nodes] of them, and their training.

    Parameters
    ----------
    dense
        Layers of each; the last has no activation.
    nodes
        How many.
    batch
        Rows of a step.
    loss
        ``"cross-entropy"`` of one logit, ``"mse"`` or ``"mae"`` of outputs against inputs.
    optimiser
        How weights move.

    Attributes
    ----------
    steps
        Taken so far.
    """

    def __init__(self, dense: Sequence[Dense], nodes: int, batch: int, loss: str, optimiser: Optimiser) -> None:
        self.dense, self.nodes, self.batch, self.loss, self.optimiser = list(dense), nodes, batch, loss, optimiser
        self.steps = 0
        self._inputs = np.zeros((nodes, 0, dense[0].inputs), np.float32)
        self._labels: Array | None = None

    @property
    @abstractmethod
    def weights(self) -> Array:
        """[nodes, parameters] float32."""

    @property
    @abstractmethod
    def state(self) -> dict[str, Array]:
        """Of the optimiser, by torch's names, [nodes, parameters] float32 each."""

    @abstractmethod
    def begin(self, weights: Array, state: Mapping[str, Array], steps: int) -> None:
        """Start from weights [nodes, parameters], or [parameters] that all have, and an optimiser's state; none: as if it were new."""

    @abstractmethod
    def step(self, inputs: Array, labels: Array | None, held: Array | int, rate: float, pull: tuple[float, Array] | None = None) -> Array:
        """Take one step on a batch of each node.

        Parameters
        ----------
        inputs
            [nodes, rows, values] float32.
        labels
            [nodes, rows] float32, for ``"cross-entropy"``.
        held
            How many of the rows, the first ones, count for each node: [nodes] int, or one number for all.
        rate
            Learning rate.
        pull
            ``mu`` and an anchor, as weights begin, of ``mu / 2 * |w - anchor|²``.

        Returns
        -------
        Array
            [nodes] float64, the loss of each.
        """

    @abstractmethod
    def finite(self) -> Array:
        """Return [nodes] bool: whose weights are all finite."""

    def room(self, rows: int) -> tuple[Array, Array | None]:
        """Return room for so many inputs and labels of each node, [nodes, rows, values] and [nodes, rows] float32, used again and again."""
        if self._inputs.shape[1] != rows:
            self._inputs = np.zeros((self.nodes, rows, self.dense[0].inputs), np.float32)
            self._labels = np.zeros((self.nodes, rows), np.float32) if self.loss == "cross-entropy" else None
        return self._inputs, self._labels


def state_of(optimiser: Optimiser) -> tuple[str, ...]:
    """Return what an optimiser remembers, by torch's names."""
    return ("exp_avg", "exp_avg_sq") if optimiser.name != "sgd" else ("momentum_buffer",) if optimiser.momentum else ()
