"""Stacked networks: dense networks of one shape, one for each node, trained side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vedette.message import Array
from vedette.training.cohort.quick import adam_of, quick_of, torch_if_any
from vedette.training.cohort.stacked import Stacked, state_of
from vedette.training.dense import Dense, logistic, parameters, pass_back, places_of
from vedette.training.task import Optimiser

__all__ = ["Stack"]

TURNED = 32
"""Rows of a batch from which weights are turned before they are multiplied (benchmarks/cohort.py)."""

LANES = 64
"""Parameters of a node are filled up to a multiple of so many."""


class Stack(Stacked):
    """Stacked networks in NumPy's arrays; see `Stacked`."""

    def __init__(self, dense: Sequence[Dense], nodes: int, batch: int, loss: str, optimiser: Optimiser) -> None:
        super().__init__(dense, nodes, batch, loss, optimiser)
        size = parameters(dense)
        # Whole vectors a node, so that no node's arithmetic falls to the remainder of a loop: what it comes to does not depend on company.
        wide = -(-size // LANES) * LANES
        self._all, self._gradients = np.zeros((nodes, wide), np.float32), np.zeros((nodes, wide), np.float32)
        self._kept = {name: np.zeros((nodes, wide), np.float32) for name in state_of(optimiser)}
        self._weights, self._state = self._all[:, :size], {name: kept[:, :size] for name, kept in self._kept.items()}
        self._w, biases = zip(*(self._parts(self._all)), strict=True)
        self._gw, self._gb = zip(*(self._parts(self._gradients)), strict=True)
        self._turned = [weight.transpose(0, 2, 1) for weight in self._w]
        # From so many rows on, products with weights that lie the other way round are the faster by more than it takes to turn them.
        self._lying = [np.empty(turned.shape, np.float32) for turned in self._turned] if batch >= TURNED else self._turned
        self._values = [np.zeros(nodes * batch * layer.outputs, np.float32) for layer in dense]
        # What comes back to one layer is used up before there is more: all share the same memory, which stays in the cache.
        self._back = np.zeros(nodes * batch * max((layer.inputs for layer in dense[1:]), default=0), np.float32)
        self._ones = np.ones((nodes, 1, batch), np.float32)
        self._spare = np.zeros((nodes, wide), np.float32) if optimiser.decay else self._gradients
        self._batches: dict[int, _Batch] = {}
        self._quick = quick_of(torch_if_any())
        self._biases = [self._quick.held(each) for each in biases]
        self._moved = self._quick.held(self._all), self._quick.held(self._gradients)
        self._adam = adam_of(optimiser, self._all, self._gradients, self._kept) if optimiser.name != "sgd" else None

    @staticmethod
    def room_of(dense: Sequence[Dense], batch: int, optimiser: Optimiser) -> int:
        """Return the bytes that a step works on, for each node."""
        held = 2 + bool(optimiser.momentum) if optimiser.name == "sgd" else 4
        back = max((layer.inputs for layer in dense[1:]), default=0)
        return 4 * (held * parameters(dense) + batch * (dense[0].inputs + sum(layer.outputs for layer in dense) + back))

    @property
    def weights(self) -> Array:
        return self._weights

    @property
    def state(self) -> dict[str, Array]:
        return self._state

    def begin(self, weights: Array, state: Mapping[str, Array], steps: int) -> None:
        self._weights[:], self.steps = weights, steps
        for name, kept in self._state.items():
            kept[:] = state.get(name, 0)

    def _parts(self, flat: Array) -> list[tuple[Array, Array]]:
        """Return weights [nodes, outputs, inputs] and biases [nodes, 1, outputs] of each layer, as views."""
        return [
            (
                flat[:, at.weights].reshape(self.nodes, layer.outputs, layer.inputs),
                flat[:, at.biases].reshape(self.nodes, 1, layer.outputs),
            )
            for layer, at in zip(self.dense, places_of(self.dense), strict=True)
        ]

    def _batch(self, rows: int) -> _Batch:
        """Return room for batches of so many rows."""
        if rows not in self._batches:
            outputs = [(self.nodes, rows, layer.outputs) for layer in self.dense]
            values = [flat[: math.prod(shape)].reshape(shape) for flat, shape in zip(self._values, outputs, strict=True)]
            back = [self._back[: math.prod(shape)].reshape(shape) for shape in outputs[:-1]]
            held = self._quick.held
            self._batches[rows] = _Batch(
                values, [each.transpose(0, 2, 1) for each in values], back, list(map(held, values)), list(map(held, back))
            )
        return self._batches[rows]

    def finite(self) -> Array:
        # A sum is spoilt by any value that is not; rarely, large ones spoil it too.
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.isfinite(self.weights @ np.ones(self.weights.shape[1], np.float32))
        return np.asarray(found if found.all() else np.isfinite(self.weights).all(axis=1))

    def step(self, inputs: Array, labels: Array | None, held: Array | int, rate: float, pull: tuple[float, Array] | None = None) -> Array:
        batch, quick, taken = self._batch(inputs.shape[1]), self._quick, inputs
        values, held_values = batch.values, batch.held_values
        for number, layer in enumerate(self.dense):
            given, weights = values[number], self._lying[number]
            if weights is not self._turned[number]:
                np.copyto(weights, self._turned[number])
            np.matmul(taken, weights, out=given)
            quick.add(held_values[number], self._biases[number])
            if layer.activation == "relu":
                quick.relu(held_values[number])
            elif layer.activation:
                _activate(given, layer)
            taken = given
        fit, scale = self._slope(taken, inputs, labels, held)
        # Plain descent needs no gradient: slopes are left as they are, and what they are to be multiplied by is, with the rate, in the end.
        folded = self.optimiser.name == "sgd" and not self.state and not self.optimiser.decay and pull is None
        if not folded:
            taken *= np.float32(scale)
        ones = self._ones[:, :, : inputs.shape[1]]
        for number in range(len(self.dense) - 1, -1, -1):
            before = values[number - 1] if number else inputs
            np.matmul(batch.turned[number], before, out=self._gw[number])
            # A product with ones is more than twice as fast as a sum over the middle axis.
            np.matmul(ones, values[number], out=self._gb[number])
            if number:
                np.matmul(values[number], self._w[number], out=batch.back[number - 1])
                if self.dense[number - 1].activation == "relu":
                    quick.relu_back(held_values[number - 1], batch.held_back[number - 1])
                else:
                    pass_back(before, batch.back[number - 1], self.dense[number - 1])
        if folded:
            self.steps += 1
            quick.move(*self._moved, -rate * scale)
        else:
            self._move(rate, pull)
        return fit

    def _slope(self, outputs: Array, inputs: Array, labels: Array | None, held: Array | int) -> tuple[Array, float]:
        """Return each node's loss, and what its slope, which is left in the outputs, is still to be multiplied by."""
        rows, width = outputs.shape[1:]
        # Nothing of what is done for some depends on whether others hold less: to multiply by 1 changes nothing.
        counts = None if isinstance(held, int) else (np.arange(rows) < held[:, None]).astype(np.float32)[..., None]
        parts: Array
        if self.loss == "cross-entropy":
            assert labels is not None
            logits = outputs[..., 0]
            parts = np.logaddexp(0, logits)
            parts -= labels * logits
            if counts is not None:
                parts *= counts[..., 0]
            parts, scale = parts.sum(axis=1, dtype=np.float64), 1.0
            logistic(outputs)
            outputs -= labels[..., None]
            if counts is not None:
                outputs *= counts
        else:
            np.subtract(outputs, inputs, out=outputs)
            if counts is not None:
                outputs *= counts
            flat, scale = outputs.reshape(self.nodes, rows * width), 1 / width
            if self.loss == "mse":
                parts, scale = np.vecdot(flat, flat), 2 * scale
            else:
                parts = np.abs(flat).sum(axis=1)
                np.sign(outputs, out=outputs)
            parts = parts / np.float64(width)
        if not isinstance(held, int):
            outputs *= (rows / held).astype(np.float32)[:, None, None]
        return parts / held, scale / rows

    def _move(self, rate: float, pull: tuple[float, Array] | None) -> None:
        weights, gradients, settings = self._all, self._gradients, self.optimiser
        self.steps += 1
        if pull is not None:
            gradients[:, : self.weights.shape[1]] += pull[0] * (self.weights - pull[1])
        if self._adam is not None:
            self._adam(rate, self.steps)
            return
        if settings.decay:
            np.multiply(weights, settings.decay, out=self._spare)
            gradients += self._spare
        if settings.momentum:
            held = self._kept["momentum_buffer"]
            held *= settings.momentum
            held += gradients
            np.multiply(held, rate, out=gradients)
        else:
            gradients *= rate
        weights -= gradients


class _Batch(NamedTuple):
    """Room for what a batch becomes in each layer, and for what comes back to it; as arrays, and as `Quick` holds them."""

    values: list[Array]
    turned: list[Array]
    back: list[Array]
    held_values: list[Any]
    held_back: list[Any]


def _activate(values: Array, layer: Dense) -> None:
    if layer.activation == "leaky-relu":
        np.maximum(values, values * np.float32(layer.slope), out=values)
    elif layer.activation == "tanh":
        np.tanh(values, out=values)
    else:
        logistic(values)
