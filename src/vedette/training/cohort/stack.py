"""Stacked networks: dense networks of one shape, one for each node, trained side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from vedette.errors import MissingExtra
from vedette.message import Array
from vedette.training.dense import Dense, logistic, parameters, pass_back, places_of
from vedette.training.layers import needs_torch
from vedette.training.rates import BETA, BETA2, EPSILON
from vedette.training.task import Optimiser

__all__ = ["Stack"]

TURNED = 32
"""Rows of a batch from which weights are turned before they are multiplied (benchmarks/cohort.py)."""

LANES = 64
"""Parameters of a node are filled up to a multiple of so many."""


class Stack:
    """Networks of the same shape, [nodes] of them, and their training.

    Parameters
    ----------
    dense
        Layers of each; the last has no activation.
    nodes
        How many.
    batch
        Rows of a step.
    loss
        ``"cross-entropy"`` of one logit, ``"mse"`` or ``"mae"`` of outputs against inputs.
    optimiser
        How weights move.

    Attributes
    ----------
    weights
        [nodes, parameters] float32.
    state
        Of the optimiser, by torch's names, [nodes, parameters] float32 each.
    steps
        Taken so far.
    """

    def __init__(self, dense: Sequence[Dense], nodes: int, batch: int, loss: str, optimiser: Optimiser) -> None:
        self.dense, self.nodes, self.batch, self.loss, self.optimiser = list(dense), nodes, batch, loss, optimiser
        size = parameters(dense)
        # Whole vectors a node, so that no node's arithmetic falls to the remainder of a loop: what it comes to does not depend on company.
        wide = -(-size // LANES) * LANES
        self._all, self._gradients = np.zeros((nodes, wide), np.float32), np.zeros((nodes, wide), np.float32)
        names = ("exp_avg", "exp_avg_sq") if optimiser.name != "sgd" else ("momentum_buffer",) if optimiser.momentum else ()
        self._kept = {name: np.zeros((nodes, wide), np.float32) for name in names}
        self.weights, self.state = self._all[:, :size], {name: kept[:, :size] for name, kept in self._kept.items()}
        self.steps = 0
        self._w, self._b = zip(*(self._parts(self._all)), strict=True)
        self._gw, self._gb = zip(*(self._parts(self._gradients)), strict=True)
        self._turned = [weight.transpose(0, 2, 1) for weight in self._w]
        # From so many rows on, products with weights that lie the other way round are the faster by more than it takes to turn them.
        self._lying = [np.empty(turned.shape, np.float32) for turned in self._turned] if batch >= TURNED else self._turned
        self._values = [np.zeros((nodes, batch, layer.outputs), np.float32) for layer in dense]
        # What comes back to one layer is used up before there is more: all share the same memory, which stays in the cache.
        self._back = np.zeros(nodes * batch * max((layer.inputs for layer in dense[1:]), default=0), np.float32)
        self._ones = np.ones((nodes, 1, batch), np.float32)
        self._spare = np.zeros((nodes, wide), np.float32) if optimiser.decay else self._gradients
        self._views: dict[int, tuple[list[Array], list[Array]]] = {}
        self._inputs = np.zeros((nodes, 0, dense[0].inputs), np.float32)
        self._labels: Array | None = None
        self._quick = _quick(_torch())
        self._adam = _adam(optimiser, self._all, self._gradients, self._kept) if optimiser.name != "sgd" else None

    def begun(self) -> Stack:
        """Return it as if nothing had been trained."""
        self.steps = 0
        for kept in self._kept.values():
            kept.fill(0)
        return self

    def room(self, rows: int) -> tuple[Array, Array | None]:
        """Return room for so many inputs and labels of each node, [nodes, rows, values] and [nodes, rows] float32, used again and again."""
        if self._inputs.shape[1] != rows:
            self._inputs = np.zeros((self.nodes, rows, self.dense[0].inputs), np.float32)
            self._labels = np.zeros((self.nodes, rows), np.float32) if self.loss == "cross-entropy" else None
        return self._inputs, self._labels

    def _parts(self, flat: Array) -> list[tuple[Array, Array]]:
        """Return weights [nodes, outputs, inputs] and biases [nodes, 1, outputs] of each layer, as views."""
        return [
            (
                flat[:, at.weights].reshape(self.nodes, layer.outputs, layer.inputs),
                flat[:, at.biases].reshape(self.nodes, 1, layer.outputs),
            )
            for layer, at in zip(self.dense, places_of(self.dense), strict=True)
        ]

    def _of(self, rows: int) -> tuple[list[Array], list[Array]]:
        """Return values and what comes back for batches of so many rows, views made once."""
        if rows not in self._views:
            values = [part[:, :rows] for part in self._values]
            shapes = [(self.nodes, rows, layer.inputs) for layer in self.dense[1:]]
            self._views[rows] = values, [self._back[: math.prod(shape)].reshape(shape) for shape in shapes]
        return self._views[rows]

    def step(
        self, inputs: Array, labels: Array | None, shares: Array | float, rate: float, pull: tuple[float, Array] | None = None
    ) -> Array:
        """Take one step on a batch of each node.

        Parameters
        ----------
        inputs
            [nodes, rows, values] float32.
        labels
            [nodes, rows] float32, for ``"cross-entropy"``.
        shares
            What each row counts in its node's loss, [nodes, rows, 1] float32 or one number for all; they add up to 1.
        rate
            Learning rate.
        pull
            ``mu`` and an anchor [nodes, parameters] of ``mu / 2 * |w - anchor|²``.

        Returns
        -------
        Array
            [nodes] float64, the loss of each.
        """
        values, back = self._of(inputs.shape[1])
        taken = inputs
        for number, layer in enumerate(self.dense):
            given, weights = values[number], self._lying[number]
            if weights is not self._turned[number]:
                np.copyto(weights, self._turned[number])
            np.matmul(taken, weights, out=given)
            self._quick.add(given, self._b[number])
            if layer.activation == "relu":
                self._quick.relu(given)
            elif layer.activation:
                _activate(given, layer)
            taken = given
        # Plain descent needs no gradient: with the rate folded into the slope of the loss, products are the steps themselves.
        folded = self.optimiser.name == "sgd" and not self.state and not self.optimiser.decay and pull is None
        fit = self._slope(taken, inputs, labels, shares, -rate if folded else 1.0)
        slope = taken
        for number in range(len(self.dense) - 1, -1, -1):
            before = values[number - 1] if number else inputs
            np.matmul(slope.transpose(0, 2, 1), before, out=self._gw[number])
            # A product with ones is more than twice as fast as a sum over the middle axis.
            np.matmul(self._ones[:, :, : slope.shape[1]], slope, out=self._gb[number])
            if number:
                np.matmul(slope, self._w[number], out=back[number - 1])
                if self.dense[number - 1].activation == "relu":
                    self._quick.relu_back(before, back[number - 1])
                else:
                    pass_back(before, back[number - 1], self.dense[number - 1])
                slope = before
        self._move(rate, folded, pull)
        return fit

    def _slope(self, outputs: Array, inputs: Array, labels: Array | None, shares: Array | float, factor: float) -> Array:
        """Return each node's loss, and leave its slope, times a factor, in the outputs."""
        parts: Array
        if self.loss == "cross-entropy":
            assert labels is not None
            logits = outputs[..., 0]
            parts = np.logaddexp(0, logits)
            parts -= labels * logits
            logistic(outputs)
            outputs -= labels[..., None]
            outputs *= shares * np.float32(factor)
        else:
            width = outputs.shape[2]
            outputs -= inputs
            if self.loss == "mse":
                parts = np.vecdot(outputs, outputs)
                outputs *= shares * np.float32(2 * factor / width)
            else:
                parts = np.abs(outputs).sum(axis=2)
                np.sign(outputs, out=outputs)
                outputs *= shares * np.float32(factor / width)
            parts /= width
        parts *= shares[..., 0] if isinstance(shares, np.ndarray) else shares
        return np.asarray(parts.sum(axis=1, dtype=np.float64))

    def _move(self, rate: float, folded: bool, pull: tuple[float, Array] | None) -> None:
        weights, gradients, settings = self._all, self._gradients, self.optimiser
        self.steps += 1
        if folded:
            weights += gradients
            return
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


class _Quick(NamedTuple):
    """What is done to all values of a layer, in place: torch's loops are two to seven times as fast as NumPy's."""

    add: Callable[[Array, Array], Any]
    relu: Callable[[Array], Any]
    relu_back: Callable[[Array, Array], Any]


@cache
def _quick(torch: Any) -> _Quick:
    if torch is None:
        relu = Dense(1, 1, "relu")
        return _Quick(
            lambda values, bias: np.add(values, bias, out=values),
            lambda values: np.maximum(values, 0, out=values),
            lambda values, back: pass_back(values, back, relu),
        )
    of, back_into = torch.from_numpy, torch.ops.aten.threshold_backward.grad_input
    return _Quick(
        lambda values, bias: of(values).add_(of(bias)),
        lambda values: torch.relu_(of(values)),
        lambda values, back: back_into(of(back), of(values), 0, grad_input=of(values)),
    )


def _torch() -> Any:
    """Return torch, or None where there is none."""
    try:
        return needs_torch()
    except MissingExtra:
        return None


def _activate(values: Array, layer: Dense) -> None:
    if layer.activation == "leaky-relu":
        np.maximum(values, values * np.float32(layer.slope), out=values)
    elif layer.activation == "tanh":
        np.tanh(values, out=values)
    else:
        logistic(values)


def _adam(optimiser: Optimiser, weights: Array, gradients: Array, state: dict[str, Array]) -> Callable[[float, int], None]:
    """Return Adam's step over all nodes at once: torch's, in one pass over the same memory, or NumPy's where there is no torch."""
    first, second = state["exp_avg"], state["exp_avg_sq"]
    decoupled = optimiser.name == "adamw"
    torch = _torch()
    if torch is None:
        return lambda rate, steps: _adam_in_numpy(optimiser, weights, gradients, first, second, rate, steps)
    tensors: list[list[Any]] = [[torch.from_numpy(array)] for array in (weights, gradients, first, second)]
    count = torch.zeros(())
    apply: Any = torch._fused_adamw_ if decoupled else torch._fused_adam_

    def step(rate: float, steps: int) -> None:
        count.fill_(steps)
        apply(
            *tensors,
            [],
            [count],
            lr=rate,
            beta1=BETA,
            beta2=BETA2,
            weight_decay=optimiser.decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    return step


def _adam_in_numpy(optimiser: Optimiser, weights: Array, gradients: Array, first: Array, second: Array, rate: float, steps: int) -> None:
    if optimiser.name == "adamw":
        weights *= 1 - rate * optimiser.decay
    elif optimiser.decay:
        gradients += optimiser.decay * weights
    first *= BETA
    first += (1 - BETA) * gradients
    second *= BETA2
    gradients *= gradients
    gradients *= 1 - BETA2
    second += gradients
    np.sqrt(second, out=gradients)
    gradients *= 1 / np.sqrt(1 - BETA2**steps)
    gradients += EPSILON
    np.divide(first, gradients, out=gradients)
    gradients *= rate / (1 - BETA**steps)
    weights -= gradients
