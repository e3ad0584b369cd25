"""Kinds of layers: what parameters each has, how they start, and the torch module that computes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from vedette.errors import MissingExtra, RecipeError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["LAYERS", "TINY", "Held", "Layer", "LayerKind", "kind_of", "needs_torch"]

TINY = 1e-9
"""Keeps a sum that something is divided by from being 0."""

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
    start, bound
        First values are drawn uniformly within `bound` of `start` (for weights, torch's default).
    """

    name: str
    shape: tuple[int, ...]
    buffer: bool = False
    start: float = 0.0
    bound: float = 0.0


class LayerKind(NamedTuple):
    """What is known of a kind of layer.

    Attributes
    ----------
    module
        Makes the torch module.
    holds
        Its arrays, in the order in which they lie in a vector.
    """

    module: Callable[[Layer], nn.Module]
    holds: Callable[[Layer], Sequence[Held]] = lambda _: ()


def _weighted(inputs: int, outputs: int, *size: int) -> Sequence[Held]:
    """Weights of `inputs` values each (times the size of a kernel), and biases."""
    bound = 1 / math.sqrt(math.prod((inputs, *size)))
    return Held("weight", (outputs, inputs, *size), bound=bound), Held("bias", (outputs,), bound=bound)


def _dense(layer: Layer) -> Sequence[Held]:
    """Weights and biases; a layer may say where its first values are drawn from."""
    usual = _weighted(layer["inputs"], layer["outputs"])
    return [held._replace(start=layer.get("start", held.start), bound=layer.get("bound", held.bound)) for held in usual]


def _batch_norm(layer: Layer) -> Sequence[Held]:
    width = (layer["width"],)
    return Held("weight", width, start=1.0), Held("bias", width), Held("running_mean", width, True), Held("running_var", width, True, 1.0)


def _lstm(layer: Layer) -> Sequence[Held]:
    gates, bound = 4 * layer["outputs"], 1 / math.sqrt(layer["outputs"])
    shapes: dict[str, tuple[int, ...]] = {"weight_ih_l0": (gates, layer["inputs"]), "weight_hh_l0": (gates, layer["outputs"])}
    shapes |= dict.fromkeys(("bias_ih_l0", "bias_hh_l0"), (gates,))
    return [Held(name, shape, bound=bound) for name, shape in shapes.items()]


def _lstm_module(layer: Layer) -> nn.Module:
    torch = needs_torch()

    class Lstm(torch.nn.LSTM):  # type: ignore[misc, name-defined]
        """Returns the outputs of all steps, or of the last, and nothing of its state."""

        def forward(self, x: Tensor) -> Tensor:
            steps: Tensor = super().forward(x)[0]
            return steps if layer["returns"] == "steps" else steps[:, -1]

    module: nn.Module = Lstm(layer["inputs"], layer["outputs"], batch_first=True)
    return module


def _module(forward: Callable[[Any, Tensor], Tensor], holds: Sequence[Held] = ()) -> nn.Module:
    """Return a module that does what `forward` says, given itself and the input, with parameters by name."""
    torch = needs_torch()

    class Made(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            for held in holds:
                self.register_parameter(held.name, torch.nn.Parameter(torch.empty(held.shape)))

        def forward(self, x: Tensor) -> Tensor:
            return forward(self, x)

    module: nn.Module = Made()
    return module


def _conv_module(layer: Layer) -> nn.Module:
    module: nn.Module = needs_torch().nn.Conv1d(layer["inputs"], layer["outputs"], layer["kernel"], padding=layer["kernel"] // 2)
    return module


def _squeezed(layer: Layer) -> Sequence[Held]:
    wide, narrow = layer["width"], layer["squeezed"]
    return Held("down", (narrow, wide), bound=1 / math.sqrt(wide)), Held("up", (wide, narrow), bound=1 / math.sqrt(narrow))


def _squeeze(module: Any, x: Tensor) -> Tensor:
    """Weigh the channels by what their means say of each other (Hu et al. 2018; MTAD-FL, eqs. 7-9)."""
    torch = needs_torch()
    weights: Tensor = torch.sigmoid(torch.relu(x.mean(dim=2) @ module.down.T) @ module.up.T)
    return x * weights.unsqueeze(2)


def _attended(layer: Layer) -> Sequence[Held]:
    slots, width = layer["slots"], layer["width"]
    return Held("keys", (slots, width), bound=1 / math.sqrt(width)), Held("values", (width, slots), bound=1 / math.sqrt(slots))


def _attend(module: Any, x: Tensor) -> Tensor:
    """Let places ask a memory that all samples share: external attention (Guo et al. 2022, algorithm 1)."""
    # Doubly normalised: over the places, then over the slots.
    asked: Tensor = needs_torch().softmax(x.transpose(1, 2) @ module.keys.T, dim=1)
    answered: Tensor = (asked / (asked.sum(dim=2, keepdim=True) + TINY)) @ module.values.T
    return answered.transpose(1, 2)


def _waves(layer: Layer) -> Sequence[Held]:
    width, waves, outputs = layer["width"], layer["waves"], layer["outputs"]
    bound = 1 / math.sqrt(2 * waves)
    return (
        Held("frequencies", (width, waves), bound=layer["reach"]),
        Held("weight", (width, 2 * waves, outputs), bound=bound),
        Held("bias", (width, outputs), bound=bound),
    )


def _embed(module: Any, x: Tensor) -> Tensor:
    """Let each value ride on waves of its own, and mix these into channels (Gorishniy et al. 2022, eqs. 1 and 4)."""
    angles = 2 * math.pi * module.frequencies * x.unsqueeze(2)
    waves = needs_torch().cat([angles.cos(), angles.sin()], dim=2)
    mixed: Tensor = (waves.transpose(0, 1) @ module.weight + module.bias.unsqueeze(1)).permute(1, 2, 0)
    return mixed


LAYERS: Mapping[str, LayerKind] = {
    # On samples of steps a dense layer works on each step by itself ("time-distributed").
    "dense": LayerKind(lambda layer: needs_torch().nn.Linear(layer["inputs"], layer["outputs"]), _dense),
    "lstm": LayerKind(_lstm_module, _lstm),
    # Works on channels of values, as "steps" and "turn" make them, and keeps their length; so do the two below.
    "conv": LayerKind(_conv_module, lambda layer: _weighted(layer["inputs"], layer["outputs"], layer["kernel"])),
    "squeeze-excitation": LayerKind(lambda layer: _module(_squeeze, _squeezed(layer)), _squeezed),
    "external-attention": LayerKind(lambda layer: _module(_attend, _attended(layer)), _attended),
    # Each value of a flat sample becomes channels by weights of its own: values with channels come out.
    "periodic": LayerKind(lambda layer: _module(_embed, _waves(layer)), _waves),
    # Channels of values become one vector: the largest of each channel, or the mean.
    "pool": LayerKind(lambda layer: _module(lambda _, x: x.amax(dim=2) if layer["by"] == "max" else x.mean(dim=2))),
    "batch-norm": LayerKind(lambda layer: needs_torch().nn.BatchNorm1d(layer["width"]), _batch_norm),
    "relu": LayerKind(lambda _: needs_torch().nn.ReLU()),
    "leaky-relu": LayerKind(lambda layer: needs_torch().nn.LeakyReLU(layer.get("slope", 0.01))),
    "tanh": LayerKind(lambda _: needs_torch().nn.Tanh()),
    "sigmoid": LayerKind(lambda _: needs_torch().nn.Sigmoid()),
    "dropout": LayerKind(lambda layer: needs_torch().nn.Dropout(layer["share"])),
    # A flat sample becomes steps and back; one vector becomes the same at each step.
    "steps": LayerKind(lambda layer: needs_torch().nn.Unflatten(1, (layer["steps"], layer["width"]))),
    "flat": LayerKind(lambda _: needs_torch().nn.Flatten()),
    # Steps of values become values over steps, the channels of a convolution.
    "turn": LayerKind(lambda _: _module(lambda _, x: x.transpose(1, 2))),
    "repeat": LayerKind(lambda layer: _module(lambda _, x: x.unsqueeze(1).expand(-1, layer["steps"], -1))),
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
