"""A network that holds its parameters as one flat array and computes in NumPy."""

from __future__ import annotations

from typing import Literal

import numpy as np

from vedette.message import Array, Vector
from vedette.training.layout import Layout, layout_of
from vedette.training.lowmem.dense import dense_of
from vedette.training.lowmem.network import DenseNetwork
from vedette.training.task import Layers

__all__ = ["FlatNetwork"]

ROWS = 64
"""Rows that are run through at once: of wider blocks less stays in a cache."""


class FlatNetwork:
    """A dense network without torch: its parameters, and a forward pass in one small set of buffers.

    Parameters
    ----------
    layers
        The network as data.

    Raises
    ------
    DetectorMisused
        It has other layers than dense ones with activations.
    """

    def __init__(self, layers: Layers) -> None:
        self.layers, self.dense, self.layout = layers, dense_of(layers), layout_of(layers)
        self.values = np.zeros(self.layout.size, np.float32)
        self._runner: DenseNetwork | None = None

    def load(self, vector: Vector, part: str = "*", holds: Literal["weights", "buffers", "all"] = "all") -> None:
        """Set (a part of) the parameters.

        Raises
        ------
        DetectorMisused
            The vector has another layout than the part.
        """
        own = self.layout.arrays(Vector(self.values, self.layout.hash))
        for name, array in self.layout.part(part, holds).arrays(vector).items():
            np.copyto(own[name], array)
        self._runner = None

    def vector(self, part: str = "*", holds: Literal["weights", "buffers", "all"] = "all") -> Vector:
        """Read (a part of) the parameters."""
        chosen: Layout = self.layout.part(part, holds)
        return chosen.flat(self.layout.arrays(Vector(self.values, self.layout.hash)))

    def prune(self, below: float) -> None:
        """Set weights that are smaller to 0; biases stay."""
        for name, array in self.layout.arrays(Vector(self.values, self.layout.hash)).items():
            if name.endswith(".weight"):
                array[np.abs(array) < below] = 0
        self._runner = None

    def forward(self, rows: Array) -> Array:
        """Run scaled rows [rows, features] float32 through the network."""
        if self._runner is None:
            self._runner = DenseNetwork(self.dense, ROWS, training=False)
            self._runner.weights[:] = self.values
        found = np.empty((len(rows), self.dense[-1].outputs), np.float32)
        for start in range(0, len(rows), ROWS):
            some = rows[start : start + ROWS]
            self._runner.inputs[: len(some)] = some
            found[start : start + len(some)] = self._runner.forward(len(some))
        return found
