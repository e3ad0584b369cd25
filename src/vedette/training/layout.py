"""Layouts: how a network's parameters lie in one flat vector."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import numpy as np

from vedette.errors import DetectorMisused
from vedette.message import Array, Vector
from vedette.seeds import stream
from vedette.training.layers import kind_of
from vedette.training.task import Layers

__all__ = ["Entry", "Layout", "initial", "layout_of"]


class Entry(NamedTuple):
    """One array of parameters: ``encoder1.weight`` of layer ``encoder1``, a weight or a buffer."""

    layer: str
    name: str
    shape: tuple[int, ...]
    buffer: bool = False


class Layout:
    """Names, shapes and offsets of a flat float32 vector.

    Parameters
    ----------
    entries
        The arrays, in order.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        self.size = sum(math.prod(entry.shape) for entry in self.entries)
        text = ";".join(f"{entry.layer}.{entry.name}:{entry.shape}:{entry.buffer}" for entry in self.entries)
        self.hash = hashlib.sha256(text.encode()).hexdigest()[:16]

    def part(self, glob: str = "*", holds: Literal["weights", "buffers", "all"] = "all") -> Layout:
        """Return the layout of the layers that match a glob: their weights, their buffers, or all."""
        wanted = {"weights": (False,), "buffers": (True,), "all": (False, True)}[holds]
        return Layout([entry for entry in self.entries if fnmatchcase(entry.layer, glob) and entry.buffer in wanted])

    def flat(self, arrays: Mapping[str, Array]) -> Vector:
        """Lay arrays, keyed ``layer.name``, into one vector."""
        parts = [np.asarray(arrays[f"{entry.layer}.{entry.name}"], dtype=np.float32).ravel() for entry in self.entries]
        return Vector(np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32), self.hash)

    def arrays(self, vector: Vector) -> dict[str, Array]:
        """Take a vector apart, keyed ``layer.name``.

        Raises
        ------
        DetectorMisused
            The vector has another layout.
        """
        if vector.layout != self.hash or len(vector.values) != self.size:
            raise DetectorMisused(
                f"received {len(vector.values)} parameters of layout {vector.layout}, expected {self.size} of {self.hash}"
            )
        taken, start = {}, 0
        for entry in self.entries:
            size = math.prod(entry.shape)
            taken[f"{entry.layer}.{entry.name}"] = vector.values[start : start + size].reshape(entry.shape)
            start += size
        return taken


def layout_of(layers: Layers) -> Layout:
    """Return the layout of a network."""
    return Layout(
        [Entry(str(layer["name"]), held.name, held.shape, held.buffer) for layer in layers for held in kind_of(layer).holds(layer)]
    )


def initial(layers: Layers, rng: np.random.Generator) -> Vector:
    """Draw first weights, each array's as its kind of layer says (`vedette.training.layers`).

    Each array has a random stream of its own, so that networks that share only some layers share those layers' first weights.
    """
    root = int(rng.integers(2**63))
    arrays: dict[str, Array] = {}
    for layer in layers:
        for held in kind_of(layer).holds(layer):
            own, low, high = stream(root, str(layer["name"]), held.name), held.start - held.bound, held.start + held.bound
            arrays[f"{layer['name']}.{held.name}"] = own.uniform(low, high, held.shape)
    return layout_of(layers).flat(arrays)
