"""Networks built in torch from layers given as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from vedette.message import Array, Vector
from vedette.training.layers import kind_of, needs_torch
from vedette.training.layout import Layout, layout_of
from vedette.training.task import Layers

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Network"]

BLOCK = 2048
"""Rows run at once: of many channels of values more would neither fit a cache nor be wanted in memory."""

Holds: TypeAlias = Literal["weights", "buffers", "all"]


class Network:
    """One network: a torch module and the layout of its parameters.

    Parameters
    ----------
    layers
        The network as data.

    Raises
    ------
    RecipeError
        A kind of layer that does not exist.
    """

    def __init__(self, layers: Layers) -> None:
        self.module: nn.Sequential = needs_torch().nn.Sequential()
        for layer in layers:
            self.module.add_module(str(layer["name"]), kind_of(layer).module(layer))
        self.layers = layers
        self.layout: Layout = layout_of(layers)
        held = sum(tensor.numel() for name, tensor in self.module.state_dict().items() if not name.endswith("num_batches_tracked"))
        assert held == self.layout.size, "a kind of layer holds parameters that its layout does not know"

    def load(self, vector: Vector, part: str = "*", holds: Holds = "all") -> None:
        """Set (a part of) the parameters.

        Raises
        ------
        DetectorMisused
            The vector has another layout than the part.
        """
        torch = needs_torch()
        state = self.module.state_dict()
        for name, array in self.layout.part(part, holds).arrays(vector).items():
            state[name].copy_(torch.from_numpy(array.copy()))

    def vector(self, part: str = "*", holds: Holds = "all") -> Vector:
        """Read (a part of) the parameters."""
        arrays = {name: tensor.detach().numpy() for name, tensor in self.module.state_dict().items()}
        return self.layout.part(part, holds).flat(arrays)

    def forward(self, rows: Array) -> Array:
        """Run scaled rows [rows, features] float32 through the network in evaluation mode."""
        torch = needs_torch()
        self.module.eval()
        with torch.inference_mode():
            parts = [self.module(torch.from_numpy(rows[start : start + BLOCK])) for start in range(0, max(len(rows), 1), BLOCK)]
            return torch.cat(parts).numpy()  # type: ignore[no-any-return]
