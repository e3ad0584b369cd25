"""Membership inference: how well an attacker tells what a model was trained on from how well it knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from vedette.data.fleet import Fleet
from vedette.data.table import Table
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.base import Detector
from vedette.detectors.oneshot import Federable
from vedette.errors import DataUnusable
from vedette.evaluation.federation import federate
from vedette.message import Array
from vedette.runtimes.topology import Topology
from vedette.seeds import seed_of, stream
from vedette.strategies.base import Strategy
from vedette.training.task import Optimiser, Trainer

__all__ = ["Attacked", "Losses", "Train", "attacked", "control", "controls_of", "federated", "fitted", "memberships_of", "try_membership"]

TINY = 1e-12
"""Below this a loss is none."""

SHADOWS = 2
"""Models that an attack in a recipe compares with, each one more training."""

Losses: TypeAlias = Callable[[str, Table], Array]
"""What a model loses on rows that a node has: [rows] float64."""
Train: TypeAlias = Callable[[Fleet, int], Losses]
"""Trains a model among nodes, with a seed."""


class Attacked(NamedTuple):
    """What came of an attack.

    Attributes
    ----------
    attack
        ``"loss"``: who is known better is a member (Yeom et al. 2018, section 3.2). ``"calibrated"``: who is known better than by models
        that were trained without it (Watson et al. 2022, eq. 2, of logarithms, which is what few models of Carlini et al. 2022 allow).
    level
        Of what it was asked: a ``"row"``, or a ``"node"`` with all its rows.
    auc
        Probability that a member looks more like one than an outsider does; 0.5 is a guess.
    low, high
        Of its 95 % interval, by bootstrap over members and outsiders.
    members, outsiders
        How many.
    """

    attack: Literal["loss", "calibrated"]
    level: Literal["row", "node"]
    auc: float
    low: float
    high: float
    members: int
    outsiders: int


def attacked(
    members: Array,
    outsiders: Array,
    attack: Literal["loss", "calibrated"] = "loss",
    level: Literal["row", "node"] = "row",
    seed: int = 0,
    draws: int = 1000,
) -> Attacked:
    """Return how well a threshold on losses tells members from outsiders.

    Parameters
    ----------
    members, outsiders
        Losses of those that were trained on, and of others of the same distribution, [n] each.
    attack, level
        What they are, for the result.
    seed, draws
        Of the bootstrap.

    Raises
    ------
    DataUnusable
        There are no members or no outsiders.
    """
    if not len(members) or not len(outsiders):
        raise DataUnusable("a membership attack needs members and outsiders to tell apart")
    _, places = np.unique(np.concatenate([members, outsiders]), return_inverse=True)
    mine, others, rng = places[: len(members)], places[len(members) :], stream(seed, "membership", "bootstrap")
    drawn = [_auc(rng.choice(mine, len(mine)), rng.choice(others, len(others)), len(places)) for _ in range(draws)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Attacked(attack, level, _auc(mine, others, len(places)), float(low), float(high), len(members), len(outsiders))


def try_membership(
    train: Train, fleet: Fleet, seed: int = 0, level: Literal["row", "node"] = "row", shadows: int = 4, block: int = 1
) -> list[Attacked]:
    """Train on a random half of what a fleet has, and try to tell it from the other half.

    The attacker has all the rows, the model, and what it takes to train others like it; what he does not know is which half it was. He sees
    no label, and nothing is chosen by what comes out.

    Parameters
    ----------
    train
        Trains the model that is attacked, and those it is compared with.
    fleet
        Training rows by node; of each the normal ones are taken.
    seed
        For the halves, the training, and the bootstrap.
    level
        Whether half of each node's rows are trained on, or all rows of half of the nodes.
    shadows
        Models that losses are compared with (``"calibrated"``), each trained on a half of its own, two and two on opposite ones, so that
        each row is missing from every other one. 0 leaves that attack out.
    block
        Consecutive rows that stay together, for detectors that see windows: some times the window.

    Returns
    -------
    list of Attacked
        By loss, and by calibrated loss.

    Raises
    ------
    DataUnusable
        Too few rows or nodes to halve.
    """
    tables = {node: fleet[node].normal() for node in fleet}
    halves = _halves(tables, level, block, seed, shadows)
    target = halves[0]
    if not any(half.any() for half in target.values()) or all(half.all() for half in target.values()):
        raise DataUnusable(f"too few {level}s to train on one half of them and keep the other")

    def losses(number: int) -> dict[str, Array]:
        chosen = {node: tables[node].take(half) for node, half in halves[number].items() if half.any()}
        asked = train(Fleet.of(chosen), seed_of(seed, "membership", "model", number) % 2**31)
        found = {}
        for node, table in tables.items():
            found[node] = np.empty(len(table))
            # Apart, so that no window holds rows of both.
            for side in (target[node], ~target[node]):
                if side.any():
                    found[node][side] = asked(node, table.take(side))
        return found

    def judged(attack: Literal["loss", "calibrated"], known: Mapping[str, Array]) -> Attacked:
        if level == "node":
            means = {node: known[node].mean(keepdims=True) for node in known if len(known[node])}
            sides = [[means[node] for node in means if target[node].all() == side] for side in (True, False)]
        else:
            sides = [[known[node][target[node] == side] for node in known] for side in (True, False)]
        return attacked(np.concatenate(sides[0]), np.concatenate(sides[1]), attack, level, seed)

    own = losses(0)
    found = [judged("loss", own)]
    if shadows:
        without = {node: np.zeros(len(table)) for node, table in tables.items()}
        for number in range(1, len(halves)):
            for node, values in losses(number).items():
                without[node] += np.where(halves[number][node], 0.0, np.log(values + TINY))
        pairs = (len(halves) - 1) / 2
        found.append(judged("calibrated", {node: np.log(own[node] + TINY) - without[node] / pairs for node in tables}))
    return found


def control(
    fleet: Fleet,
    seed: int = 0,
    level: Literal["row", "node"] = "row",
    rows: int = 60,
    nodes: int = 20,
    epochs: float = 500,
    shadows: int = 6,
) -> list[Attacked]:
    """Attack a model that knows its rows by heart, so that a failure elsewhere means something: AUC should be 0.7 or more.

    A wide autoencoder is trained for long on a few rows of the fleet, without any privacy.

    Parameters
    ----------
    fleet
        The rows that the real model is attacked on.
    seed
        Which rows are taken, and all else.
    level
        Of what it is asked; see `try_membership`.
    rows
        How many are trained on; as many are kept out.
    nodes
        Among how many they are dealt out.
    epochs
        Passes over them.
    shadows
        Models that losses are compared with; see `try_membership`.
    """
    pooled = fleet.pooled().normal()
    taken = stream(seed, "membership", "control").permutation(len(pooled))[: 2 * rows]
    few = Fleet.of({f"{number}": pooled.take(np.sort(part)) for number, part in enumerate(np.array_split(taken, nodes))})
    heart = Autoencoder(hidden=(512, 64), epochs=epochs, optimiser=Optimiser(rate=1e-3, batch=rows))
    return try_membership(fitted(heart), few, seed, level, shadows)


def fitted(detector: Detector) -> Train:
    """Return a training of one detector on all rows together, with the detector's own epochs."""

    def train(fleet: Fleet, seed: int) -> Losses:
        learned = detector.model_copy().fit(fleet.pooled(), seed=seed)
        return lambda _, table: learned.raw_scores(table)

    return train


def federated(detector: Federable, strategy: Strategy, **about: Any) -> Train:
    """Return a training among nodes; `about`: see `vedette.evaluation.federation.federate`.

    A node that took no part is asked about at the first one that did, so nodes should end with the same model.
    """

    def train(fleet: Fleet, seed: int) -> Losses:
        learned = federate(fleet, detector, strategy, seed=seed, **about).detectors
        first = next(iter(learned.values()))
        return lambda node, table: learned.get(node, first).raw_scores(table)

    return train


def memberships_of(
    detector: Federable, strategy: Strategy, fleet: Fleet, seed: int, topology: Topology, trainer: Trainer
) -> list[dict[str, Any]]:
    """Attack what a fleet learns together, by rows and by nodes; no label is seen, and half of the rows are held out for it."""
    train = federated(detector, strategy, topology=topology, trainer=trainer)
    block = 1 if detector.window.size == 1 else 4 * detector.window.size
    return _told(each for level in ("row", "node") for each in try_membership(train, fleet, seed, level, SHADOWS, block))


def controls_of(fleet: Fleet, seed: int) -> list[dict[str, Any]]:
    """Attack models that know rows of a fleet by heart, which must succeed."""
    return _told(each for level in ("row", "node") for each in control(fleet, seed, level, shadows=SHADOWS))


def _told(found: Iterable[Any]) -> list[dict[str, Any]]:
    return [each._asdict() for each in found]


def _halves(tables: Mapping[str, Table], level: str, block: int, seed: int, shadows: int) -> list[dict[str, Array]]:
    """Return which rows each model is trained on, by node, [rows] bool: the target first, then pairs of opposites."""
    found = []
    for number in range(1 + (shadows + 1) // 2):
        rng = stream(seed, "membership", "half", number)
        if level == "node":
            nodes = rng.permutation(np.arange(len(tables)) < len(tables) // 2).tolist()
            half = {node: np.full(len(table), taken) for (node, table), taken in zip(tables.items(), nodes, strict=True)}
        else:
            half = {}
            for node, table in tables.items():
                blocks = -(-len(table) // block)
                half[node] = np.repeat(rng.permutation(np.arange(blocks) < blocks // 2), block)[: len(table)]
        found += [half] if not number else [half, {node: ~taken for node, taken in half.items()}]
    return found


def _auc(members: Array, outsiders: Array, count: int) -> float:
    """Return how often a member stands before an outsider, given their places among all losses; ties count half."""
    mine, others = np.bincount(members, minlength=count), np.bincount(outsiders, minlength=count)
    behind = len(outsiders) - np.cumsum(others) + 0.5 * others
    return float(mine @ behind / (len(members) * len(outsiders)))
