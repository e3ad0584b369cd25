"""Networks built in torch from layers given as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from vedette.errors import MissingExtra, RecipeError
from vedette.message import Array, Vector
from vedette.training.layout import Layout, layout_of
from vedette.training.task import Layers

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Network", "needs_torch"]

Holds: TypeAlias = Literal["weights", "buffers", "all"]


def needs_torch() -> Any:
    """Import torch, with one thread for this process.

    Raises
    ------
    MissingExtra
        It is not installed.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtra("training needs PyTorch: pip install 'vedette[train]'") from None
    if torch.get_num_threads() != 1:
        # Two threads on two busy cores can be ten times slower than one; parallelism is over nodes.
        torch.set_num_threads(1)
    return torch


def _kinds() -> Mapping[str, Callable[[Mapping[str, Any]], nn.Module]]:
    nn = needs_torch().nn
    return {
        "dense": lambda layer: nn.Linear(layer["inputs"], layer["outputs"]),
        "relu": lambda _: nn.ReLU(),
        "leaky-relu": lambda layer: nn.LeakyReLU(layer.get("slope", 0.01)),
        "tanh": lambda _: nn.Tanh(),
        "sigmoid": lambda _: nn.Sigmoid(),
        "dropout": lambda layer: nn.Dropout(layer["share"]),
        "batch-norm": lambda layer: nn.BatchNorm1d(layer["width"]),
    }


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
        torch, kinds = needs_torch(), _kinds()
        unknown = [layer["kind"] for layer in layers if layer["kind"] not in kinds]
        if unknown:
            raise RecipeError(f"unknown kind of layer '{unknown[0]}'; known: {', '.join(sorted(kinds))}")
        self.module: nn.Sequential = torch.nn.Sequential()
        for layer in layers:
            self.module.add_module(str(layer["name"]), kinds[layer["kind"]](layer))
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
            return self.module(torch.from_numpy(rows)).numpy()  # type: ignore[no-any-return]
