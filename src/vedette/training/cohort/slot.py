"""A node's network in a cohort: its parameters as one vector, and what all networks of its shape share."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np

from vedette.errors import DetectorMisused
from vedette.message import Array, Vector
from vedette.training.dense import Dense, dense_of
from vedette.training.layout import Layout, layout_of
from vedette.training.lowmem.flat import FlatNetwork
from vedette.training.task import Layers

__all__ = ["Shape", "Slot"]


class Shape:
    """What networks of the same layers share.

    Parameters
    ----------
    layers
        The network as data.

    Attributes
    ----------
    dense
        Its layers if it can be stacked: dense ones, the last without activation; else none.
    """

    def __init__(self, layers: Layers) -> None:
        self.layers, self.layout = layers, layout_of(layers)
        try:
            dense = tuple(dense_of(layers))
        except DetectorMisused:
            dense = ()
        self.dense: tuple[Dense, ...] = dense if dense and not dense[-1].activation else ()
        self._parts: dict[tuple[str, str], tuple[Layout, Array]] = {}

    @cached_property
    def runner(self) -> FlatNetwork:
        """What runs any of them."""
        return FlatNetwork(self.layers, 256)

    def part(self, glob: str, holds: Literal["weights", "buffers", "all"]) -> tuple[Layout, Array]:
        """Return the layout of a part of the parameters, and their places among all."""
        if (glob, holds) not in self._parts:
            layout = self.layout.part(glob, holds)
            numbered = self.layout.arrays(Vector(np.arange(self.layout.size), self.layout.hash))
            places = [numbered[f"{entry.layer}.{entry.name}"].ravel() for entry in layout.entries]
            self._parts[glob, holds] = layout, np.concatenate(places) if places else np.zeros(0, dtype=np.int64)
        return self._parts[glob, holds]


class Slot:
    """One node's network; its vector is never changed in place, so that nodes may share one.

    Parameters
    ----------
    shape
        What it has in common with others.
    """

    __slots__ = ("layers", "shape", "values")

    def __init__(self, shape: Shape) -> None:
        self.shape, self.layers = shape, shape.layers
        self.values: Array = np.zeros(0, np.float32)

    def load(self, vector: Vector, part: str = "*", holds: Literal["weights", "buffers", "all"] = "all") -> None:
        """Set (a part of) the parameters; see `vedette.training.networks.Network.load`."""
        layout, places = self.shape.part(part, holds)
        if vector.layout != layout.hash or len(vector.values) != layout.size:
            layout.arrays(vector)  # says what is wrong
        if layout.size == self.shape.layout.size:
            self.values = np.asarray(vector.values, dtype=np.float32)
        elif layout.size:
            self.values = self.values.copy()
            self.values[places] = vector.values

    def vector(self, part: str = "*", holds: Literal["weights", "buffers", "all"] = "all") -> Vector:
        """Read (a part of) the parameters."""
        layout, places = self.shape.part(part, holds)
        return Vector(self.values if layout.size == self.shape.layout.size else self.values[places], layout.hash)

    def forward(self, rows: Array) -> Array:
        """Run scaled rows [rows, features] float32 through the network."""
        runner = self.shape.runner
        runner.load(Vector(self.values, self.shape.layout.hash))
        return runner.forward(rows)
