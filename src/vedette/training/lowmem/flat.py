"""A network that holds its parameters as one flat array and computes in NumPy."""

from __future__ import annotations

from typing import Literal

import numpy as np

from vedette.message import Array, Vector
from vedette.training.dense import dense_of
from vedette.training.layout import Layout, layout_of
from vedette.training.lowmem.network import DenseNetwork, sparing
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
    rows
        Rows that are run through at once.
    whole
        Always run so many, for a few rows too: what a row gives does not depend on how many there are (NumPy adds up in another order for
        one row than for several).

    Raises
    ------
    DetectorMisused
        It has other layers than dense ones with activations.
    """

    def __init__(self, layers: Layers, rows: int = ROWS, whole: bool = False) -> None:
        self.layers, self.layout, self._whole = layers, layout_of(layers), whole
        self._runner = DenseNetwork(dense_of(layers), rows, training=False)

    def _arrays(self) -> dict[str, Array]:
        return self.layout.arrays(Vector(self._runner.weights, self.layout.hash))

    def load(self, vector: Vector, part: str = "*", holds: Literal["weights", "buffers", "all"] = "all") -> None:
        """Set (a part of) the parameters.

        Raises
        ------
        DetectorMisused
            The vector has another layout than the part.
        """
        own = self._arrays()
        for name, array in self.layout.part(part, holds).arrays(vector).items():
            np.copyto(own[name], array)

    def vector(self, part: str = "*", holds: Literal["weights", "buffers", "all"] = "all") -> Vector:
        """Read (a part of) the parameters."""
        chosen: Layout = self.layout.part(part, holds)
        return chosen.flat(self._arrays())

    def prune(self, below: float) -> None:
        """Set weights that are smaller to 0; biases stay."""
        for name, array in self._arrays().items():
            if name.endswith(".weight"):
                array[np.abs(array) < below] = 0

    @sparing()
    def forward(self, rows: Array) -> Array:
        """Run scaled rows [rows, features] float32 through the network."""
        runner = self._runner
        found = np.empty((len(rows), runner.dense[-1].outputs), np.float32)
        for start in range(0, len(rows), runner.rows):
            some = rows[start : start + runner.rows]
            runner.inputs[: len(some)] = some
            found[start : start + len(some)] = runner.forward(runner.rows if self._whole else len(some))[: len(some)]
        return found
