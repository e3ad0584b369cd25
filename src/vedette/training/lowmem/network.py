"""Forward and backward passes of dense networks in buffers that are made once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import numpy as np

from vedette.message import Array
from vedette.training.dense import Dense, Place, logistic, parameters, pass_back, places_of
from vedette.training.lowmem.half import narrow, widen

__all__ = ["Buffers", "DenseNetwork", "Precision", "allocated", "buffers_of", "sparing"]

Precision: TypeAlias = Literal["float32", "float16"]
"""How weights and gradients are kept; all arithmetic is float32."""

Buffers: TypeAlias = dict[str, tuple[tuple[int, ...], type[Any]]]
"""Shape and type of each buffer, by name: what it costs before it is there."""

UPDATED = 8192
"""Parameters that are updated at once, at most: what lies between the steps stays in the cache."""

BUFFERED = 256
"""Numbers that NumPy buffers where a row is combined with a matrix: 1 kB instead of 32; a step takes 2 % longer (benchmarks/lowmem.py)."""


@contextmanager
def sparing() -> Iterator[None]:
    """Let NumPy buffer no more than is needed, and say nothing of overflows: who trains looks at what comes out."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        np.setbufsize(BUFFERED)
        yield


def buffers_of(
    dense: Sequence[Dense], rows: int, precision: Precision, lanes: int, training: bool = True, nodes: tuple[int, ...] = ()
) -> Buffers:
    """Return the shape and type of every buffer of a `DenseNetwork`."""
    kept: type[Any] = np.float16 if precision == "float16" else np.float32
    size, widest = parameters(dense), max(max(layer.inputs, layer.outputs) for layer in dense)
    buffers: Buffers = {"weights": ((*nodes, size), kept), "zeros": ((widest,), np.float32)}
    for place, width in enumerate([dense[0].inputs, *(layer.outputs for layer in dense)]):
        buffers[f"values{place}"] = ((*nodes, rows, width), np.float32)
    leaky = [layer.outputs for layer in dense if layer.activation == "leaky-relu"]
    hidden = [layer.inputs for layer in dense[1:]] if training else []
    aside = rows * min(lanes, max([1, *hidden, *leaky])) if training or leaky else 0
    block = min(lanes, max(layer.outputs for layer in dense)) * widest
    if kept is np.float16:
        # Widened weights, or a block of a gradient, or what it is added to: all of these while values come back.
        buffers["block"], buffers["aside"] = ((*nodes, block), np.float32), ((*nodes, aside), np.float32)
    else:
        buffers["block"] = ((*nodes, aside + block * training), np.float32)
    if training:
        buffers["gradients"] = ((*nodes, size), kept)
        buffers["other"] = ((*nodes, block if kept is np.float16 else min(block, UPDATED)), np.float32)
        buffers["labels"] = buffers["shares"] = ((*nodes, rows), np.float32)
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
        [*nodes, rows, values] float32, to be filled and read; `backward` takes from `outputs` what `pass_back` made of the loss.
    labels, shares
        [*nodes, rows] float32, for who works out the loss.
    fits
        Whether all gradients since the last `backward` with `first` fitted into 16 bits, if that is how they are kept.
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
        self.half, self.fits = precision == "float16", True
        made = allocated(buffers_of(dense, rows, precision, lanes, training, nodes))
        self.bytes = sum(buffer.nbytes for buffer in made.values())
        none = np.zeros(0, np.float32)
        self.weights, self.gradients = made["weights"], made.get("gradients", none)
        self.values = [made[f"values{place}"] for place in range(len(dense) + 1)]
        self.labels, self.shares = made.get("labels", none), made.get("shares", none)
        self.scratch, self.other = made["block"], made.get("other", none)
        self._zeros, self._aside = made["zeros"], made.get("aside", self.scratch)
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
        """[*nodes, rows, values] float32; before `backward`, the gradient of the loss by what the last activation was given."""
        return self.values[-1]

    def _matrix(self, flat: Array, layer: Dense, at: Place) -> Array:
        return flat[..., at.weights].reshape(*self.nodes, layer.outputs, layer.inputs)

    def _shaped(self, flat: Array, *shape: int) -> Array:
        """Return the beginning of a flat buffer as an array of some shape for each node."""
        return flat[..., : math.prod(shape)].reshape(*self.nodes, *shape)

    def aside(self, values: Array) -> Iterator[tuple[slice, Array, Array]]:
        """Yield blocks of columns of values [*nodes, rows, columns], each with room of the same shape, which may be spoilt."""
        rows, columns = values.shape[-2:]
        for block in _blocks(columns, self._aside.shape[-1] // self.rows):
            yield block, values[..., block], self._shaped(self._aside, rows, block.stop - block.start)

    def forward(self, rows: int) -> Array:
        """Run the first `rows` of `inputs` through; return [*nodes, rows, values], a view of `outputs`."""
        for number, layer in enumerate(self.dense):
            taken, given = self.values[number][..., :rows, :], self.values[number + 1][..., :rows, :]
            weights, biases = self._weights[number], self.weights[..., self.places[number].biases]
            if self.half:
                for block in _blocks(layer.outputs, self.scratch.shape[-1] // layer.inputs):
                    wide = self._shaped(self.scratch, block.stop - block.start, layer.inputs)
                    widen(weights[..., block, :], wide)
                    np.matmul(taken, wide.swapaxes(-1, -2), out=given[..., block])
                # Widened before they are added: a sum of two types would be buffered by NumPy, outside of what is counted.
                halves, biases = biases, self.scratch[..., : layer.outputs]
                widen(halves, biases)
            else:
                np.matmul(taken, weights.swapaxes(-1, -2), out=given)
            np.add(given, biases[..., None, :], out=given)
            self._activate(given, layer)
        return self.outputs[..., :rows, :]

    def _activate(self, values: Array, layer: Dense) -> None:
        if layer.activation == "relu":
            # A row of zeros: NumPy compares with a single number four times as slowly.
            np.maximum(values, self._zeros[: layer.outputs], out=values)
        elif layer.activation == "leaky-relu":
            for _, part, less in self.aside(values):
                np.multiply(part, layer.slope, out=less)
                np.maximum(part, less, out=part)
        elif layer.activation == "tanh":
            np.tanh(values, out=values)
        elif layer.activation == "sigmoid":
            logistic(values)

    def backward(self, rows: int, first: bool) -> None:
        """Work out the gradient of the loss whose gradient by what the last activation was given `outputs` holds, for the rows just run.

        Parameters
        ----------
        rows
            How many; values between the layers are overwritten.
        first
            Whether it replaces what `gradients` hold, or is added to them.
        """
        self.fits = self.fits or first
        for number in range(len(self.dense) - 1, -1, -1):
            layer, taken, slope = self.dense[number], self.values[number][..., :rows, :], self.values[number + 1][..., :rows, :]
            weights, biases = self._gradients[number], self.gradients[..., self.places[number].biases]
            if first and not self.half:
                # A gradient that replaces what was there needs no room beside it.
                np.matmul(slope.swapaxes(-1, -2), taken, out=weights)
                np.add.reduce(slope, axis=-2, out=biases)
            else:
                for block in _blocks(layer.outputs, self.scratch.shape[-1] // layer.inputs):
                    product = self._shaped(self.scratch, block.stop - block.start, layer.inputs)
                    np.matmul(slope[..., block].swapaxes(-1, -2), taken, out=product)
                    self._add(product, weights[..., block, :], first)
                total = self.scratch[..., : layer.outputs]
                np.add.reduce(slope, axis=-2, out=total)
                self._add(total, biases, first)
            if number:
                self._further(number, slope, taken)

    def _add(self, found: Array, gradient: Array, first: bool) -> None:
        """Add a block, which is spoilt, to a part of the gradients, or set it."""
        if not self.half:
            np.add(gradient, found, out=gradient)
            return
        if not first:
            other = self._shaped(self.other, *found.shape[len(self.nodes) :])
            widen(gradient, other)
            np.add(found, other, out=found)
        self.fits &= narrow(found, gradient)

    def _further(self, number: int, slope: Array, taken: Array) -> None:
        """Turn the values that a layer took into the gradient of the loss by what the layer before made them of."""
        layer, before, weights = self.dense[number], self.dense[number - 1], self._weights[number]
        for block, values, back in self.aside(taken):
            wide = weights[..., block]
            if self.half:
                wide = self._shaped(self.scratch, layer.outputs, block.stop - block.start)
                widen(weights[..., block], wide)
            if layer.outputs == 1:
                # An outer product, twice as fast as a matrix product.
                np.copyto(back, wide)
                np.multiply(back, slope, out=back)
            else:
                np.matmul(slope, wide, out=back)
            pass_back(values, back, before)


def _blocks(count: int, most: int) -> Iterator[slice]:
    return (slice(start, min(start + most, count)) for start in range(0, count, most))
