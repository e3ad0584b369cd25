"""Descent: batches in, weights moved, in the memory that is there already."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from vedette.message import Array
from vedette.training.dense import logistic, pass_back
from vedette.training.lowmem.network import DenseNetwork, sparing
from vedette.training.lowmem.rows import Rows
from vedette.training.lowmem.update import Elimination, Updater

__all__ = ["Descended", "Loss", "Order", "Schedule", "descend"]

Loss: TypeAlias = Literal["cross-entropy", "mse", "mae"]


class Order(Protocol):
    """In which order rows are visited in one pass."""

    def take(self, start: int, stop: int) -> Array:
        """Return the numbers of the rows at places `start` to `stop`."""


class Schedule(NamedTuple):
    """What is added to plain descent, by Zakariyya et al. 2021, algorithm 2.

    Attributes
    ----------
    weight, growth, scale
        lambda at the start, by how much it grows, and w0 (`Elimination`); no penalty if both are 0.
    pruned
        Weights that are smaller after a pass become 0 and stay so; nothing is pruned if it is 0.
    compared
        What decides whether lambda grows after a pass: the ``"whole"`` loss with the penalty, as in line 9 of the algorithm, or the
        ``"fit"`` to the rows alone; with ``"fit"`` lambda also falls again where the fit got worse (Weigend et al. 1991).
    baseline
        Losses of the plain network pass by pass, to compare with; if there are none, what the own fit was in the pass before.
    """

    weight: float = 0.0
    growth: float = 0.0
    scale: float = 0.01
    pruned: float = 0.0
    compared: Literal["whole", "fit"] = "whole"
    baseline: tuple[float, ...] = ()


PLAIN = Schedule()

NUMBERED = 64
"""Rows whose numbers are worked out at once, so that these take no more memory where batches are large."""


class Descended(NamedTuple):
    """What came of it.

    Attributes
    ----------
    fit
        [*nodes] mean loss over the last steps, as many as make a pass, without penalty; not finite if it diverged.
    weight
        lambda at the end.
    """

    fit: Array
    weight: float


@sparing()
def descend(
    network: DenseNetwork,
    updater: Updater,
    rows: Sequence[Rows],
    order: Callable[[int], Sequence[Order]],
    loss: Loss,
    batch: int,
    steps: int,
    rate: Callable[[float], float],
    schedule: Schedule = PLAIN,
    pull: tuple[float, Array] | None = None,
) -> Descended:
    """Take some steps.

    Parameters
    ----------
    network, updater
        What is trained; `network.rows` is the size of a micro-batch: gradients of the micro-batches of a batch add up before the step.
    rows
        Of each node, in the order of the network's leading axis; one if it has none. All nodes make the same number of steps a pass.
    order
        Number of the pass -> in which order each node's rows are visited.
    loss
        ``"cross-entropy"`` of one logit, or the distance of outputs to inputs.
    batch
        Rows a step.
    steps
        How many.
    rate
        Share of the steps done -> learning rate.
    schedule
        Penalty and pruning.
    pull
        See `Updater.step`.
    """
    counts = np.array([len(each) for each in rows])
    passes = math.ceil(int(counts.max()) / batch)
    weight, before = schedule.weight, math.inf
    orders: Sequence[Order] = ()
    # Loss and rows of the pass, which decide on lambda, and of the last steps, which are what the ordinary trainer reports.
    total, last = np.zeros((2, len(rows))), np.zeros((2, len(rows)))
    for step in range(steps):
        number, place = divmod(step, passes)
        if not place:
            orders, total[:] = order(number), 0
        begin, held = place * batch, np.minimum(counts - place * batch, batch)
        found = np.zeros(len(rows))
        for start in range(0, int(held.max()), network.rows):
            most = _fill(network, rows, orders, begin + start, np.minimum(held - start, network.rows), updater.scale / held)
            network.forward(most)
            found += _loss(network, most, loss) * (held / updater.scale)
            network.backward(most, first=not start)
        total += found, held
        if steps - step <= passes:
            last += found, held
        penalty = Elimination(weight, schedule.scale) if weight else None
        updater.step(rate(step / steps), penalty, pull)
        if place == passes - 1:
            weight, before = _adapted(updater, schedule, weight, before, number, float((total[0] / total[1]).mean()))
            if schedule.pruned:
                updater.prune(schedule.pruned)
    return Descended((last[0] / np.maximum(last[1], 1)).reshape(network.nodes), weight)


def _fill(network: DenseNetwork, rows: Sequence[Rows], orders: Sequence[Order], begin: int, counts: Array, shares: Array) -> int:
    """Read a micro-batch of each node into the network; return how many rows the largest has.

    Parameters
    ----------
    begin
        At which place of each node's order it begins.
    counts
        [nodes] int, rows of each; some have none left.
    shares
        [nodes], of each of its rows in the loss.
    """
    nodes = len(rows)
    inputs, labels = network.inputs.reshape(nodes, network.rows, -1), network.labels.reshape(nodes, -1)
    parts = network.shares.reshape(nodes, -1)
    parts[:] = 0
    for node, (count, share) in enumerate(zip(counts.tolist(), shares.tolist(), strict=True)):
        for start in range(0, count, NUMBERED):
            some = slice(start, min(start + NUMBERED, count))
            rows[node].fill(orders[node].take(begin + some.start, begin + some.stop), inputs[node, some], labels[node, some])
        parts[node, : max(count, 0)] = share
    return int(counts.max())


def _adapted(updater: Updater, schedule: Schedule, weight: float, before: float, number: int, fit: float) -> tuple[float, float]:
    """Return lambda for the next pass (algorithm 2, lines 9 and 10), and the fit."""
    if not schedule.growth:
        return weight, fit
    wanted = schedule.baseline[min(number, len(schedule.baseline) - 1)] if schedule.baseline else before
    if schedule.compared == "fit":
        return max(0.0, weight + (schedule.growth if fit <= wanted else -schedule.growth)), fit
    whole = fit + weight * float(np.mean(updater.complexity(schedule.scale)))
    return (weight + schedule.growth if whole <= wanted else weight), fit


def _loss(network: DenseNetwork, rows: int, loss: Loss) -> Array:
    """Return the loss of the rows just run, weighted by the network's shares, [nodes] float64, and leave in `outputs` what to pass back."""
    outputs, labels, shares = network.outputs[..., :rows, :], network.labels[..., :rows, None], network.shares[..., :rows]
    found = np.zeros(shares.shape, np.float32)
    for block, values, slope in network.aside(outputs):
        if loss == "cross-entropy":
            found += (np.logaddexp(0, values) - labels * values)[..., 0]
            np.copyto(slope, values)
            logistic(slope)
            slope -= labels
        else:
            inputs, width = network.inputs[..., :rows, block], outputs.shape[-1]
            np.subtract(values, inputs, out=slope)
            if loss == "mse":
                found += np.einsum("...rv,...rv->...r", slope, slope) / width
                slope *= 2 / width
            else:
                # Worked out once more for its signs, because there is no room for both.
                np.abs(slope, out=slope)
                found += slope.sum(axis=-1) / width
                np.subtract(values, inputs, out=slope)
                np.sign(slope, out=slope)
                slope *= 1 / width
        slope *= shares[..., None]
        pass_back(values, slope, network.dense[-1])
    return np.atleast_1d(np.einsum("...r,...r->...", found, shares)).astype(np.float64)
