"""Lessons: the training of one network, told in numbers and arrays alone, so that a bare process can carry it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vedette.message import Array
from vedette.training.dense import Dense
from vedette.training.lowmem.descent import Loss, Order, Schedule, descend
from vedette.training.lowmem.network import DenseNetwork, Precision
from vedette.training.lowmem.order import Scattered
from vedette.training.lowmem.rows import Rows
from vedette.training.lowmem.update import Rule, Updater
from vedette.training.rates import rate_at

__all__ = ["Lesson", "Rate", "Taught", "teach"]


class Rate(NamedTuple):
    """The learning rate over a lesson.

    Attributes
    ----------
    value
        At the beginning of all training.
    falls
        Whether it falls to 0 along a cosine.
    begin, end
        Where in all training the lesson begins and ends, 0 to 1.
    """

    value: float
    falls: bool = False
    begin: float = 0.0
    end: float = 1.0

    def at(self, done: float) -> float:
        """Return the rate when a share of the lesson is done."""
        return rate_at(self.value, self.falls, self.begin + (self.end - self.begin) * done)


class Lesson(NamedTuple):
    """The training of one network.

    Attributes
    ----------
    dense, vector
        The network, and its parameters [parameters] float32.
    loss, batch, steps, rule, rate, schedule
        See `descend` and `Updater`.
    micro, precision, lanes
        Rows of a micro-batch, how weights are kept, and rows of a weight matrix worked on at once.
    seed
        For the order of rows and for rounding.
    scattered
        Whether rows are visited in an order that needs no list of them; else as the ordinary trainer does.
    state
        Of the optimiser, and ``steps``, to go on from; empty to begin anew.
    mu, anchor
        Of the proximal term; no anchor, no term.
    """

    dense: Sequence[Dense]
    vector: Array
    loss: Loss
    batch: int
    steps: int
    rule: Rule
    rate: Rate
    schedule: Schedule
    micro: int
    precision: Precision
    lanes: int
    seed: int
    scattered: bool = False
    state: Mapping[str, Array | int] = {}
    mu: float = 0.0
    anchor: Array | None = None

    @property
    def manner(self) -> tuple[Any, ...]:
        """What lessons that are carried out side by side have in common."""
        how = (self.loss, self.batch, self.steps, self.rule, self.rate, self.schedule, self.micro, self.precision, self.lanes)
        return (tuple(self.dense), *how, self.scattered, self.state.get("steps"), self.mu)

    def orders(self, rows: int) -> Callable[[int], Order]:
        """Return the order of each pass."""
        if self.scattered:
            return lambda number: Scattered(rows, np.random.default_rng([self.seed, number]))
        rng = np.random.default_rng(self.seed)
        return lambda number: _Shuffled(rng.permutation(rows))


class Taught(NamedTuple):
    """What came of a lesson.

    Attributes
    ----------
    vector
        [parameters] float32.
    fit
        Mean loss over the rows of the last pass, without penalty; not finite if it diverged.
    weight
        lambda at the end.
    state
        Of the optimiser, and ``steps``.
    overflows
        Steps left out because a gradient did not fit 16 bits.
    bytes
        Of the buffers.
    """

    vector: Array
    fit: float
    weight: float
    state: Mapping[str, Array | int]
    overflows: int
    bytes: int


class _Shuffled(NamedTuple):
    """A permutation, as the ordinary trainer draws one a pass."""

    rows: Array

    def take(self, start: int, stop: int) -> Array:
        return self.rows[start:stop]


def teach(lessons: Sequence[Lesson], rows: Sequence[Rows], on_steps: Callable[[], None] = lambda: None) -> list[Taught]:
    """Carry out lessons of the same manner side by side.

    Parameters
    ----------
    lessons
        At least one.
    rows
        Of each.
    on_steps
        Called after the last step, before what came of them is handed over.
    """
    first, count = lessons[0], len(lessons)
    nodes = (count,) if count > 1 else ()
    network = DenseNetwork(first.dense, first.micro, first.precision, first.lanes, nodes=nodes)
    updater = Updater(network, first.rule, np.random.default_rng([first.seed, 1]), stays=first.schedule.pruned > 0)
    weights = network.weights.reshape(count, -1)
    for place, lesson in enumerate(lessons):
        np.copyto(weights[place], lesson.vector, casting="same_kind")
    if all(lesson.state for lesson in lessons):
        for name, kept in updater.state.items():
            np.copyto(kept.reshape(count, -1), np.stack([np.asarray(lesson.state[name]) for lesson in lessons]))
        updater.steps = int(first.state["steps"])
    pull = None
    if first.anchor is not None:
        pull = first.mu, np.stack([lesson.anchor for lesson in lessons if lesson.anchor is not None]).reshape(network.weights.shape)
    orders = [lesson.orders(len(each)) for lesson, each in zip(lessons, rows, strict=True)]
    found = descend(
        network,
        updater,
        rows,
        lambda number: [order(number) for order in orders],
        first.loss,
        first.batch,
        first.steps,
        first.rate.at,
        first.schedule,
        pull,
    )
    on_steps()
    fits = found.fit.reshape(count)
    states = {name: kept.reshape(count, -1) for name, kept in updater.state.items()}
    return [
        Taught(
            weights[place].astype(np.float32),
            float(fits[place]),
            found.weight,
            {**{name: kept[place] for name, kept in states.items()}, "steps": updater.steps},
            updater.overflows,
            network.bytes + updater.bytes,
        )
        for place in range(count)
    ]
