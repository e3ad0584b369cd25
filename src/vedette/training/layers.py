"""Kinds of layers: what parameters each has, how they start, and the torch module that computes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from vedette.errors import MissingExtra, RecipeError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["LAYERS", "Held", "Layer", "LayerKind", "kind_of", "needs_torch"]

Layer: TypeAlias = Mapping[str, Any]
"""One layer as data: its ``name``, its ``kind`` and the settings of the kind."""


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


class Held(NamedTuple):
    """One array that a layer holds: ``weight`` of shape [16, 41], a weight or a buffer.

    Attributes
    ----------
    name, shape
        As in the module's state.
    buffer
        Whether it is a statistic that training does not move.
    start
        The value it starts at; None: drawn uniformly within the layer's bound.
    """

    name: str
    shape: tuple[int, ...]
    buffer: bool = False
    start: float | None = None


class LayerKind(NamedTuple):
    """What is known of a kind of layer.

    Attributes
    ----------
    module
        Makes the torch module.
    holds
        Its arrays, in the order in which they lie in a vector.
    bound
        First weights are drawn uniformly between minus this and this (torch's default).
    """

    module: Callable[[Layer], nn.Module]
    holds: Callable[[Layer], Sequence[Held]] = lambda _: ()
    bound: Callable[[Layer], float] = lambda _: 0.0


def _dense(layer: Layer) -> Sequence[Held]:
    return Held("weight", (layer["outputs"], layer["inputs"])), Held("bias", (layer["outputs"],))


def _batch_norm(layer: Layer) -> Sequence[Held]:
    width = (layer["width"],)
    kept = Held("running_mean", width, True, 0.0), Held("running_var", width, True, 1.0)
    return Held("weight", width, start=1.0), Held("bias", width, start=0.0), *kept


def _lstm(layer: Layer) -> Sequence[Held]:
    gates = 4 * layer["outputs"]
    weights = Held("weight_ih_l0", (gates, layer["inputs"])), Held("weight_hh_l0", (gates, layer["outputs"]))
    return *weights, Held("bias_ih_l0", (gates,)), Held("bias_hh_l0", (gates,))


def _lstm_module(layer: Layer) -> nn.Module:
    torch = needs_torch()

    class Lstm(torch.nn.LSTM):  # type: ignore[misc, name-defined]
        """Returns the outputs of all steps, or of the last, and nothing of its state."""

        def forward(self, x: Tensor) -> Tensor:
            steps: Tensor = super().forward(x)[0]
            return steps if layer["returns"] == "steps" else steps[:, -1]

    module: nn.Module = Lstm(layer["inputs"], layer["outputs"], batch_first=True)
    return module


def _repeat_module(layer: Layer) -> nn.Module:
    torch = needs_torch()

    class Repeat(torch.nn.Module):  # type: ignore[misc, name-defined]
        """Says the same at each step."""

        def forward(self, x: Tensor) -> Tensor:
            return x.unsqueeze(1).expand(-1, layer["steps"], -1)

    module: nn.Module = Repeat()
    return module


LAYERS: Mapping[str, LayerKind] = {
    # On samples of steps a dense layer works on each step by itself ("time-distributed").
    "dense": LayerKind(
        lambda layer: needs_torch().nn.Linear(layer["inputs"], layer["outputs"]), _dense, lambda layer: 1 / math.sqrt(layer["inputs"])
    ),
    "lstm": LayerKind(_lstm_module, _lstm, lambda layer: 1 / math.sqrt(layer["outputs"])),
    "batch-norm": LayerKind(lambda layer: needs_torch().nn.BatchNorm1d(layer["width"]), _batch_norm),
    "relu": LayerKind(lambda _: needs_torch().nn.ReLU()),
    "leaky-relu": LayerKind(lambda layer: needs_torch().nn.LeakyReLU(layer.get("slope", 0.01))),
    "tanh": LayerKind(lambda _: needs_torch().nn.Tanh()),
    "sigmoid": LayerKind(lambda _: needs_torch().nn.Sigmoid()),
    "dropout": LayerKind(lambda layer: needs_torch().nn.Dropout(layer["share"])),
    # A flat sample becomes steps and back; one vector becomes the same at each step.
    "steps": LayerKind(lambda layer: needs_torch().nn.Unflatten(1, (layer["steps"], layer["width"]))),
    "flat": LayerKind(lambda _: needs_torch().nn.Flatten()),
    "repeat": LayerKind(_repeat_module),
}
"""All kinds, by name."""


def kind_of(layer: Layer) -> LayerKind:
    """Return what is known of a layer's kind.

    Raises
    ------
    RecipeError
        There is no such kind.
    """
    if layer["kind"] not in LAYERS:
        raise RecipeError(f"unknown kind of layer '{layer['kind']}'; known: {', '.join(sorted(LAYERS))}")
    return LAYERS[layer["kind"]]
