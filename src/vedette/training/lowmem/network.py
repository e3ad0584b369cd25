"""Forward and backward passes of dense networks in buffers that are made once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from vedette.message import Array
from vedette.training.lowmem.dense import Dense, parameters

__all__ = ["Buffers", "DenseNetwork", "Precision", "allocated", "buffers_of"]

Precision: TypeAlias = Literal["float32", "float16"]
"""How weights and gradients are kept; all arithmetic is float32."""

Buffers: TypeAlias = dict[str, tuple[tuple[int, ...], type[Any]]]
"""Shape and type of each buffer, by name: what it costs before it is there."""

UPDATED = 8192
"""Parameters that are updated at once, at most: what lies between the steps stays in the cache."""


class _Place(NamedTuple):
    """Where a layer lies in the flat array of parameters."""

    weights: slice
    biases: slice


def places_of(dense: Sequence[Dense]) -> list[_Place]:
    """Return where each layer's weights and biases lie in the flat array."""
    found, start = [], 0
    for layer in dense:
        middle, stop = start + layer.inputs * layer.outputs, start + layer.parameters
        found.append(_Place(slice(start, middle), slice(middle, stop)))
        start = stop
    return found


def buffers_of(
    dense: Sequence[Dense], rows: int, precision: Precision, lanes: int, training: bool = True, nodes: tuple[int, ...] = ()
) -> Buffers:
    """Return the shape and type of every buffer of a `DenseNetwork`."""
    kept: type[Any] = np.float16 if precision == "float16" else np.float32
    size, widest = parameters(dense), max(max(layer.inputs, layer.outputs) for layer in dense)
    buffers: Buffers = {"weights": ((*nodes, size), kept)}
    for place, width in enumerate([dense[0].inputs, *(layer.outputs for layer in dense)]):
        buffers[f"values{place}"] = ((*nodes, rows, width), np.float32)
    block = min(lanes, max(layer.outputs for layer in dense)) * widest
    if training:
        hidden = max((layer.inputs for layer in dense[1:]), default=1)
        back = min(lanes, hidden)
        buffers["gradients"] = ((*nodes, size), kept)
        buffers["back"] = ((*nodes, rows * back), np.float32)
        buffers["passed"] = ((*nodes, rows * back), np.bool_)
    if training or kept is np.float16:
        # Widened weights, or one block of a gradient; a second one to widen the gradient that it is added to, and for updates.
        buffers["block"] = ((*nodes, max(block, rows) if training else block), np.float32)
    if training:
        buffers["other"] = ((*nodes, block if kept is np.float16 else min(block, UPDATED)), np.float32)
    return buffers


def allocated(buffers: Buffers) -> dict[str, Array]:
    """Make buffers."""
    return {name: np.zeros(shape, kind) for name, (shape, kind) in buffers.items()}


class DenseNetwork:
    """A dense network, or one of the same shape for each of several nodes, that computes in place.

    Parameters
    ----------
    dense
        Its layers.
    rows
        Most rows that go through it at once.
    precision
        How weights and gradients are kept.
    lanes
        Rows of a weight matrix that are widened, or whose gradient is worked out, at once: fewer take less memory and more time.
    training
        Whether gradients are wanted.
    nodes
        Leading axis: ``(8,)`` for eight networks side by side.

    Attributes
    ----------
    weights, gradients
        [*nodes, parameters] in the precision asked for.
    inputs, outputs
        [*nodes, rows, values] float32, to be filled and read; `backward` reads the gradient of the loss from `outputs`.
    """

    def __init__(
        self,
        dense: Sequence[Dense],
        rows: int,
        precision: Precision = "float32",
        lanes: int = 4096,
        training: bool = True,
        nodes: tuple[int, ...] = (),
    ) -> None:
        self.dense, self.rows, self.precision, self.lanes, self.nodes = list(dense), rows, precision, lanes, nodes
        self.half = precision == "float16"
        made = allocated(buffers_of(dense, rows, precision, lanes, training, nodes))
        self.bytes = sum(buffer.nbytes for buffer in made.values())
        self.weights, self.gradients = made["weights"], made.get("gradients", made["weights"][..., :0])
        self.values = [made[f"values{place}"] for place in range(len(dense) + 1)]
        self.scratch, self.other = made.get("block", np.zeros(0, np.float32)), made.get("other", np.zeros(0, np.float32))
        self._back, self._passed = made.get("back"), made.get("passed")
        self.places = places_of(dense)
        self._weights = [self._matrix(self.weights, layer, at) for layer, at in zip(self.dense, self.places, strict=True)]
        if training:
            self._gradients = [self._matrix(self.gradients, layer, at) for layer, at in zip(self.dense, self.places, strict=True)]

    @property
    def inputs(self) -> Array:
        """[*nodes, rows, values] float32, to be filled."""
        return self.values[0]

    @property
    def outputs(self) -> Array:
        """[*nodes, rows, values] float32; before `backward`, the gradient of the loss."""
        return self.values[-1]

    def _matrix(self, flat: Array, layer: Dense, at: _Place) -> Array:
        return flat[..., at.weights].reshape(*self.nodes, layer.outputs, layer.inputs)

    def _blocks(self, count: int) -> Iterator[slice]:
        return (slice(start, min(start + self.lanes, count)) for start in range(0, count, self.lanes))

    def _shaped(self, flat: Array, *shape: int) -> Array:
        """Return the beginning of a flat buffer as an array of some shape for each node."""
        return flat[..., : math.prod(shape)].reshape(*self.nodes, *shape)

    def forward(self, rows: int) -> Array:
        """Run the first `rows` of `inputs` through; return [*nodes, rows, values], a view of `outputs`."""
        for number, layer in enumerate(self.dense):
            taken, given = self.values[number][..., :rows, :], self.values[number + 1][..., :rows, :]
            weights, biases = self._weights[number], self.weights[..., self.places[number].biases]
            if self.half:
                for block in self._blocks(layer.outputs):
                    wide = self._shaped(self.scratch, block.stop - block.start, layer.inputs)
                    np.copyto(wide, weights[..., block, :])
                    np.matmul(taken, wide.swapaxes(-1, -2), out=given[..., block])
            else:
                np.matmul(taken, weights.swapaxes(-1, -2), out=given)
            # Widened before they are added: a sum of two types would be buffered by NumPy, outside of what is counted.
            given += biases[..., None, :].astype(np.float32) if self.half else biases[..., None, :]
            _activate(given, layer)
        return self.outputs[..., :rows, :]

    def backward(self, rows: int, first: bool) -> None:
        """Work out the gradient of what `outputs` holds the gradient of, for the rows just run.

        Parameters
        ----------
        rows
            How many; values between the layers are overwritten.
        first
            Whether it replaces what `gradients` hold, or is added to them.
        """
        for number in range(len(self.dense) - 1, -1, -1):
            layer, taken, slope = self.dense[number], self.values[number][..., :rows, :], self.values[number + 1][..., :rows, :]
            # A gradient that replaces what was there needs no room beside it.
            for block in self._blocks(layer.outputs) if self.half or not first else [slice(0, layer.outputs)]:
                self._add(self._gradients[number][..., block, :], slope[..., block].swapaxes(-1, -2), taken, first)
            biases = self.gradients[..., self.places[number].biases]
            if first:
                np.copyto(biases, slope.sum(axis=-2), casting="same_kind")
            else:
                np.copyto(biases, biases.astype(np.float32) + slope.sum(axis=-2), casting="same_kind")
            if number:
                self._further(number, slope, taken, rows)

    def _add(self, gradient: Array, slope: Array, taken: Array, first: bool) -> None:
        """Add (or set) a block of a gradient: the product [*nodes, outputs, inputs] of slopes and values."""
        if first and not self.half:
            np.matmul(slope, taken, out=gradient)
            return
        product = self._shaped(self.scratch, *gradient.shape[-2:])
        np.matmul(slope, taken, out=product)
        if not first:
            if self.half:
                before = self._shaped(self.other, *gradient.shape[-2:])
                np.copyto(before, gradient)
                product += before
            else:
                gradient += product
                return
        np.copyto(gradient, product, casting="same_kind")

    def _further(self, number: int, slope: Array, taken: Array, rows: int) -> None:
        """Turn the values that a layer took into the gradient of the loss by what the layer before made them of."""
        assert self._back is not None
        assert self._passed is not None
        layer, before, weights = self.dense[number], self.dense[number - 1], self._weights[number]
        for block in self._blocks(layer.inputs):
            width = block.stop - block.start
            back, passed = self._shaped(self._back, rows, width), self._shaped(self._passed, rows, width)
            if self.half:
                wide = self._shaped(self.scratch, layer.outputs, width)
                np.copyto(wide, weights[..., block])
                np.matmul(slope, wide, out=back)
            else:
                np.matmul(slope, weights[..., block], out=back)
            _slope(back, taken[..., block], passed, before)
            np.copyto(taken[..., block], back)


def _activate(values: Array, layer: Dense) -> None:
    if layer.activation == "relu":
        np.maximum(values, 0, out=values)
    elif layer.activation == "leaky-relu":
        np.multiply(values, layer.slope, out=values, where=values < 0)
    elif layer.activation == "tanh":
        np.tanh(values, out=values)
    elif layer.activation == "sigmoid":
        # By tanh, so that no exponent overflows.
        values *= 0.5
        np.tanh(values, out=values)
        values += 1
        values *= 0.5


def _slope(back: Array, values: Array, passed: Array, layer: Dense) -> None:
    """Multiply what comes back by the slope of an activation, told from the values that it gave; these may be spoilt."""
    if layer.activation == "relu":
        # Set, not multiplied by what is true: a product of two types would be buffered by NumPy, outside of what is counted.
        np.less_equal(values, 0, out=passed)
        np.copyto(back, 0, where=passed)
    elif layer.activation == "leaky-relu":
        np.less(values, 0, out=passed)
        np.multiply(back, layer.slope, out=back, where=passed)
    elif layer.activation == "tanh":
        np.multiply(values, values, out=values)
        np.subtract(1, values, out=values)
        back *= values
    elif layer.activation == "sigmoid":
        back *= values
        np.subtract(1, values, out=values)
        back *= values
