"""Descent: batches in, weights moved, in the memory that is there already."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from vedette.message import Array
from vedette.training.lowmem.network import DenseNetwork
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


class Descended(NamedTuple):
    """What came of it.

    Attributes
    ----------
    fit
        [*nodes] mean loss over the rows of the last pass, without penalty; not finite if it diverged.
    weight
        lambda at the end.
    """

    fit: Array
    weight: float


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
    nodes = len(rows)
    wide = network.inputs.reshape(nodes, network.rows, -1)
    labels, shares = np.zeros((nodes, network.rows), np.float32), np.zeros((nodes, network.rows), np.float32)
    total, seen = np.zeros(nodes), np.zeros(nodes)
    for step in range(steps):
        number, place = divmod(step, passes)
        if not place:
            orders, total, seen = order(number), np.zeros(nodes), np.zeros(nodes)
        ends = np.minimum((place + 1) * batch, counts)
        held = ends - place * batch
        for start in range(0, int(held.max()), network.rows):
            most = 0
            shares[:] = 0
            for node in range(nodes):
                first = place * batch + start
                count = min(int(ends[node]) - first, network.rows)
                if count > 0:
                    rows[node].fill(orders[node].take(first, first + count), wide[node, :count], labels[node, :count])
                    shares[node, :count] = updater.scale / held[node]
                    most = max(most, count)
            network.forward(most)
            total += _loss(network, labels[:, :most], shares[:, :most], loss, nodes) / updater.scale * held
            network.backward(most, first=not start)
        seen += held
        penalty = Elimination(weight, schedule.scale) if weight else None
        updater.step(rate(step / steps), penalty, pull)
        if place == passes - 1:
            weight, before = _adapted(updater, schedule, weight, before, number, float((total / seen).mean()))
            if schedule.pruned:
                updater.prune(schedule.pruned)
    return Descended((total / np.maximum(seen, 1)).reshape(network.nodes), weight)


def _adapted(updater: Updater, schedule: Schedule, weight: float, before: float, number: int, fit: float) -> tuple[float, float]:
    """Return lambda for the next pass (algorithm 2, lines 9 and 10), and the fit."""
    if not schedule.growth:
        return weight, fit
    wanted = schedule.baseline[min(number, len(schedule.baseline) - 1)] if schedule.baseline else before
    if schedule.compared == "fit":
        return max(0.0, weight + (schedule.growth if fit <= wanted else -schedule.growth)), fit
    whole = fit + weight * float(np.mean(updater.complexity(schedule.scale)))
    return (weight + schedule.growth if whole <= wanted else weight), fit


def _loss(network: DenseNetwork, labels: Array, shares: Array, loss: Loss, nodes: int) -> Array:
    """Return the loss of the rows just run, weighted by `shares`, [nodes] float64, and leave its gradient in `outputs`."""
    rows = labels.shape[1]
    outputs = network.outputs.reshape(nodes, network.rows, -1)[:, :rows]
    if loss == "cross-entropy":
        logits = outputs[..., 0]
        found = (np.logaddexp(0, logits) - labels * logits) * shares
        logits *= 0.5
        np.tanh(logits, out=logits)
        logits += 1
        logits *= 0.5
        logits -= labels
        logits *= shares
        return np.asarray(found.sum(axis=1, dtype=np.float64))
    values = outputs.shape[2]
    outputs -= network.inputs.reshape(nodes, network.rows, -1)[:, :rows]
    if loss == "mse":
        found = np.einsum("nrv,nrv,nr->n", outputs, outputs, shares) / values
        outputs *= 2 / values
    else:
        found = np.einsum("nrv,nr->n", np.abs(outputs), shares) / values
        np.sign(outputs, out=outputs)
        outputs *= 1 / values
    outputs *= shares[..., None]
    return np.asarray(found, dtype=np.float64)
