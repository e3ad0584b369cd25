"""Pruning: what is left of a dense network once weights that are exactly 0 are taken as gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from vedette.message import Array, Vector
from vedette.training.layers import Layer
from vedette.training.layout import layout_of
from vedette.training.task import Layers

__all__ = ["Compacted", "Stage", "compacted", "expanded", "gathered", "pruned_share", "stages_of"]

Activation: TypeAlias = Callable[[Layer, Array], Array]

ELEMENTWISE: Mapping[str, Activation] = {
    "relu": lambda _, x: np.maximum(x, 0),
    "leaky-relu": lambda layer, x: np.where(x < 0, layer.get("slope", 0.01) * x, x),
    "tanh": lambda _, x: np.tanh(x),
    # The logistic function, said so that no exponent overflows.
    "sigmoid": lambda _, x: 0.5 * (1 + np.tanh(x / 2)),
    "dropout": lambda _, x: x,  # lets everything through once training is over
}
"""Kinds of layers that work on each value by itself."""


class Stage(NamedTuple):
    """A dense layer and what follows it, value by value.

    Attributes
    ----------
    name
        Of the dense layer.
    weight, bias
        [outputs, inputs] and [outputs].
    after
        The element-wise layers up to the next dense one.
    """

    name: str
    weight: Array
    bias: Array
    after: tuple[Layer, ...]

    def activated(self, values: Array) -> Array:
        """Apply what follows the dense layer."""
        for layer in self.after:
            values = ELEMENTWISE[layer["kind"]](layer, values)
        return values

    def forward(self, values: Array) -> Array:
        """Run [n, inputs] through the stage."""
        return self.activated(values @ self.weight.T + self.bias)


class Compacted(NamedTuple):
    """A network without the neurons that do nothing.

    Attributes
    ----------
    layers, vector
        The narrower network; names of layers stay.
    full
        Parameters of the original layers that compute the same: zeros where a neuron went, constants in the biases.
    kept
        [neurons left] int for each hidden dense layer: which of its neurons stay. Empty if the network is none that can be narrowed.
    """

    layers: Layers
    vector: Vector
    full: Vector
    kept: tuple[Array, ...]


def stages_of(layers: Layers, vector: Vector) -> list[Stage] | None:
    """Take a network apart into dense layers, each with what follows it; None if it has, or begins with, anything else."""
    stages: list[Stage] = []
    arrays = layout_of(layers).arrays(vector)
    for layer in layers:
        name = str(layer["name"])
        if layer["kind"] == "dense":
            stages.append(Stage(name, arrays[f"{name}.weight"], arrays[f"{name}.bias"], ()))
        elif stages and layer["kind"] in ELEMENTWISE:
            stages[-1] = stages[-1]._replace(after=(*stages[-1].after, layer))
        else:
            return None
    return stages or None


def compacted(layers: Layers, vector: Vector) -> Compacted:
    """Take out the neurons of hidden layers that weights of exactly 0 have cut off.

    A neuron without outgoing weights goes. One without incoming weights is constant: what it gives the next layer is added to that
    layer's biases, and it goes. So on until nothing changes; at least one neuron a layer stays.

    Parameters
    ----------
    layers
        The network as data. Dense layers and element-wise activations; others come back unchanged.
    vector
        Its parameters.

    Raises
    ------
    DetectorMisused
        The vector has another layout.
    """
    stages = stages_of(layers, vector)
    if stages is None:
        return Compacted(layers, vector, vector, ())
    weights = [stage.weight.astype(np.float64) for stage in stages]
    biases = [stage.bias.astype(np.float64) for stage in stages]
    left = [np.ones(len(weight), dtype=bool) for weight in weights[:-1]]
    while any(_narrow(stages, weights, biases, left, place) for place in range(len(left))):
        pass
    kept = tuple(np.flatnonzero(each) for each in left)
    arrays: dict[str, Array] = {}
    for stage, weight, bias in zip(stages, weights, biases, strict=True):
        arrays |= {f"{stage.name}.weight": weight, f"{stage.name}.bias": bias}
    full = layout_of(layers).flat(arrays)
    return Compacted(_narrowed(layers, kept), gathered(layers, full, kept), full, kept)


def expanded(layers: Layers, compact: Vector, kept: Sequence[Array]) -> Vector:
    """Lay a narrower network's parameters into the original layout, zeros elsewhere: the inverse of `compacted`.

    Parameters
    ----------
    layers
        The original network.
    compact
        Parameters of the narrower one.
    kept
        As in `Compacted`.

    Raises
    ------
    DetectorMisused
        The vector is none of the narrower network's.
    """
    if not kept:
        layout_of(layers).arrays(compact)
        return compact
    found = layout_of(_narrowed(layers, kept)).arrays(compact)
    arrays: dict[str, Array] = {}
    for layer, (outgoing, incoming) in zip(_dense(layers), _chosen(kept), strict=True):
        weight, bias = np.zeros((layer["outputs"], layer["inputs"]), np.float32), np.zeros(layer["outputs"], np.float32)
        rows, columns = np.arange(layer["outputs"])[outgoing], np.arange(layer["inputs"])[incoming]
        weight[np.ix_(rows, columns)] = found[f"{layer['name']}.weight"]
        bias[rows] = found[f"{layer['name']}.bias"]
        arrays |= {f"{layer['name']}.weight": weight, f"{layer['name']}.bias": bias}
    return layout_of(layers).flat(arrays)


def gathered(layers: Layers, full: Vector, kept: Sequence[Array]) -> Vector:
    """Return, of the original network's parameters, those of the narrower one.

    Parameters
    ----------
    layers
        The original network.
    full
        Its parameters.
    kept
        As in `Compacted`.

    Raises
    ------
    DetectorMisused
        The vector has another layout.
    """
    arrays = layout_of(layers).arrays(full)
    return layout_of(_narrowed(layers, kept)).flat(_cut(layers, arrays, kept)) if kept else full


def pruned_share(layers: Layers, vector: Vector) -> float:
    """Return the share of a network's weights that are exactly 0; biases and statistics do not count."""
    layout = layout_of(layers)
    arrays = layout.arrays(vector)
    weights = [arrays[f"{entry.layer}.{entry.name}"] for entry in layout.entries if len(entry.shape) > 1]
    total = sum(weight.size for weight in weights)
    return sum(int((weight == 0).sum()) for weight in weights) / total if total else 0.0


def _narrow(stages: Sequence[Stage], weights: list[Array], biases: list[Array], left: list[Array], place: int) -> bool:
    """Take neurons that do nothing out of one hidden layer, in place; say whether there were any."""
    here, bias, there = weights[place], biases[place], weights[place + 1]
    reached, heard = here.any(axis=1), there.any(axis=0)
    idle = left[place] & ~(reached & heard)
    constant = idle & heard
    biases[place + 1] += there[:, constant] @ stages[place].activated(bias)[constant]
    changed = bool(here[idle].any() or bias[idle].any() or constant.any())
    here[idle], bias[idle] = 0, 0
    there[:, idle] = 0
    if np.array_equal(idle, left[place]):
        idle[np.argmax(idle)] = False
    left[place] &= ~idle
    return changed or bool(idle.any())


def _cut(layers: Layers, arrays: Mapping[str, Array], kept: Sequence[Array]) -> dict[str, Array]:
    """Take the rows and columns of neurons that stay out of weights and biases."""
    cut: dict[str, Array] = {}
    for layer, (outgoing, incoming) in zip(_dense(layers), _chosen(kept), strict=True):
        cut[f"{layer['name']}.weight"] = arrays[f"{layer['name']}.weight"][outgoing][:, incoming]
        cut[f"{layer['name']}.bias"] = arrays[f"{layer['name']}.bias"][outgoing]
    return cut


def _dense(layers: Layers) -> list[Layer]:
    return [layer for layer in layers if layer["kind"] == "dense"]


def _chosen(kept: Sequence[Array]) -> list[tuple[Array | slice, Array | slice]]:
    """Return for each dense layer which outputs and which inputs stay."""
    everything = slice(None)
    return list(zip([*kept, everything], [everything, *kept], strict=True))


def _narrowed(layers: Layers, kept: Sequence[Array]) -> Layers:
    """Return the layers with as many neurons as are kept."""
    if all(len(each) == layer["outputs"] for each, layer in zip(kept, _dense(layers), strict=False)):
        return layers
    widths = iter([None, *map(len, kept), None])
    inputs, narrower = next(widths), []
    for layer in layers:
        if layer["kind"] == "dense":
            outputs = next(widths)
            layer = {**layer, "inputs": inputs or layer["inputs"], "outputs": outputs or layer["outputs"]}
            inputs = outputs
        narrower.append(layer)
    return narrower
