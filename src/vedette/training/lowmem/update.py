"""Updates of weights in place, block by block: optimisers, the weight-elimination penalty, 16-bit rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vedette.message import Array
from vedette.training.dense import Dense, parameters
from vedette.training.lowmem.half import draw, narrow, widen
from vedette.training.lowmem.network import Buffers, DenseNetwork, Precision, allocated
from vedette.training.rates import BETA, BETA2, EPSILON

__all__ = ["STATES", "Elimination", "Rule", "Updater", "state_of"]

STATES = {"sgd": (), "momentum": ("momentum",), "adam": ("first", "second"), "adamw": ("first", "second")}
"""What each optimiser keeps for every parameter, float32; Adam's moments before they are multiplied by 1 - beta."""

LOSS_SCALE, MOST_SCALE, CALM = 1024.0, 65536.0, 200
"""Where the loss scale starts, how far it goes, and after how many steps without overflow it doubles."""


class Rule(NamedTuple):
    """How weights move.

    Attributes
    ----------
    name
        One of `STATES`.
    decay
        Weight decay.
    momentum
        Of ``"momentum"``.
    """

    name: str = "sgd"
    decay: float = 0.0
    momentum: float = 0.9


class Elimination(NamedTuple):
    """The weight-elimination penalty (Weigend et al. 1991; Zakariyya et al. 2021, eq. 4), ``weight * sum (w/w0)² / (1 + (w/w0)²)``.

    Attributes
    ----------
    weight
        lambda.
    scale
        w0: weights much smaller count as nothing, much larger ones as 1 each.
    """

    weight: float
    scale: float


def state_of(dense: Sequence[Dense], rule: str, precision: Precision, other: tuple[int, ...]) -> Buffers:
    """Return the shape and type of every buffer of an `Updater`; `other` is the shape of the network's buffer of that name."""
    nodes, kept = other[:-1], {name: ((*other[:-1], parameters(dense)), np.float32) for name in STATES[rule]}
    # Gradients of 16 bits are widened before they are used.
    return {**kept, "zero": (other, np.bool_), "slope": (other if precision == "float16" else (*nodes, 0), np.float32)}


class Updater:
    """Moves the weights of a network by its gradients.

    Parameters
    ----------
    network
        Whose gradients are those of the loss times `scale`.
    rule
        How weights move.
    rng
        For stochastic rounding to 16 bits, without which small steps would be lost.
    stays
        Whether a weight that is 0 stays 0: it is pruned.

    Attributes
    ----------
    state
        By name, [*nodes, parameters] float32; and ``steps`` taken.
    scale
        What the loss must be multiplied by; 1 unless gradients are kept in 16 bits.
    overflows
        Steps left out because a gradient did not fit 16 bits.
    """

    def __init__(self, network: DenseNetwork, rule: Rule, rng: np.random.Generator, stays: bool = False) -> None:
        self.network, self.rule, self.rng, self.stays = network, rule, rng, stays
        made = allocated(state_of(network.dense, rule.name, network.precision, network.other.shape))
        self.bytes = sum(buffer.nbytes for buffer in made.values())
        self.state = {name: made[name] for name in STATES[rule.name]}
        self._zero, self._slope = made["zero"], made["slope"]
        self.steps = 0
        self.scale, self.overflows, self._calm = (LOSS_SCALE if network.half else 1.0), 0, 0
        self._size = network.other.shape[-1]

    def _blocks(self, apart: bool) -> Iterator[tuple[slice, bool]]:
        """Yield blocks of parameters, and whether they are weights; with `apart` none holds weights and biases."""
        whole = [(slice(0, self.network.weights.shape[-1]), True)]
        for part, weights in [each for at in self.network.places for each in ((at.weights, True), (at.biases, False))] if apart else whole:
            for start in range(part.start, part.stop, self._size):
                yield slice(start, min(start + self._size, part.stop)), weights

    def step(self, rate: float, penalty: Elimination | None = None, pull: tuple[float, Array] | None = None) -> bool:
        """Move all weights once.

        Parameters
        ----------
        rate
            Learning rate.
        penalty
            Added to the loss.
        pull
            ``mu`` and an anchor [*nodes, parameters] of ``mu / 2 * |w - anchor|²``.

        Returns
        -------
        bool
            False if a gradient overflowed and nothing moved; the loss scale is halved then.
        """
        if not self.network.fits:
            self.scale, self.overflows, self._calm = max(1.0, self.scale / 2), self.overflows + 1, 0
            return False
        self.steps += 1
        penalty = penalty if penalty is not None and penalty.weight else None
        for block, weights in self._blocks(self.stays or penalty is not None):
            self._move(block, rate, penalty if weights else None, pull, weights and self.stays)
        self._calm += 1
        if self.network.half and self._calm >= CALM:
            self.scale, self._calm = min(MOST_SCALE, self.scale * 2), 0
        return True

    def _move(self, block: slice, rate: float, penalty: Elimination | None, pull: tuple[float, Array] | None, stays: bool) -> None:
        network, rule, count = self.network, self.rule, block.stop - block.start
        kept, spare, zero = network.weights[..., block], network.other[..., :count], self._zero[..., :count]
        if network.half:
            weights, slope = network.scratch[..., :count], self._slope[..., :count]
            widen(kept, weights)
            widen(network.gradients[..., block], slope)
            slope *= 1 / self.scale
        else:
            weights, slope = kept, network.gradients[..., block]
        if stays:
            np.equal(weights, 0, out=zero)
        if penalty is not None:
            _eliminate(slope, weights, spare, penalty)
        if pull is not None:
            np.subtract(weights, pull[1][..., block], out=spare)
            spare *= pull[0]
            slope += spare
        if rule.decay and rule.name == "adamw":
            weights *= 1 - rate * rule.decay
        elif rule.decay:
            np.multiply(weights, rule.decay, out=spare)
            slope += spare
        if rule.name == "momentum":
            held = self.state["momentum"][..., block]
            held *= rule.momentum
            held += slope
            np.multiply(held, rate, out=slope)
        elif rule.name == "sgd":
            slope *= rate
        else:
            self._adapt(slope, spare, block, rate)
        weights -= slope
        if stays:
            np.copyto(weights, 0, where=zero)
        if network.half:
            narrow(weights, kept, draw(self.rng, spare))

    def _adapt(self, slope: Array, spare: Array, block: slice, rate: float) -> None:
        """Turn a slope into Adam's step (Kingma and Ba 2015, algorithm 1).

        With m = (1 - beta1) first and v = (1 - beta2) second, the step is ``rate · m / c1 / (sqrt(v / c2) + epsilon)``, c1 = 1 - beta1^t
        and c2 = 1 - beta2^t: all that is one number for all parameters is taken out of the sum and the root.
        """
        first, second = self.state["first"][..., block], self.state["second"][..., block]
        first *= BETA
        first += slope
        second *= BETA2
        slope *= slope
        second += slope
        root = math.sqrt((1 - BETA2) / (1 - BETA2**self.steps))
        np.sqrt(second, out=spare)
        spare += EPSILON / root
        np.divide(first, spare, out=slope)
        slope *= rate * (1 - BETA) / (1 - BETA**self.steps) / root

    def complexity(self, scale: float) -> Array:
        """Return [*nodes] float64, the sum of ``(w/w0)² / (1 + (w/w0)²)`` over all weights (eq. 4 without lambda)."""
        total = np.zeros(self.network.nodes)
        for block, weights in self._blocks(apart=True):
            if weights:
                squares, sums = (room[..., : block.stop - block.start] for room in (self.network.other, self.network.scratch))
                self._read(block, squares)
                squares *= squares
                np.add(squares, scale**2, out=sums)
                squares /= sums
                total += squares.sum(axis=-1)
        return total

    def _read(self, block: slice, into: Array) -> None:
        """Copy weights into float32."""
        (widen if self.network.half else _copy)(self.network.weights[..., block], into)

    def prune(self, below: float) -> None:
        """Set weights that are smaller to 0; biases stay."""
        for block, weights in self._blocks(apart=True):
            if weights:
                part, small = self.network.weights[..., block], self._zero[..., : block.stop - block.start]
                size = self.network.other[..., : block.stop - block.start]
                self._read(block, size)
                np.abs(size, out=size)
                np.less(size, below, out=small)
                np.copyto(part, 0, where=small)


def _eliminate(slope: Array, weights: Array, spare: Array, penalty: Elimination) -> None:
    """Add the penalty's gradient, ``weight * 2 w w0² / (w0² + w²)²``."""
    square = penalty.scale**2
    np.multiply(weights, weights, out=spare)
    spare += square
    spare *= spare
    np.divide(weights, spare, out=spare)
    spare *= 2 * penalty.weight * square
    slope += spare


def _copy(values: Array, into: Array) -> None:
    np.copyto(into, values)
