"""One node's work in one phase: what all trainers do alike around the training itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np

from vedette.data.rebalance import Keep
from vedette.errors import DataUnusable, DetectorMisused, TrainingDiverged
from vedette.message import Array, Channel, Memory, Message, Query, Vector
from vedette.seeds import stream
from vedette.training.layout import initial
from vedette.training.queries import QUERIES, Asked
from vedette.training.rows import TrainingRows
from vedette.training.task import Done, Job, Layers, Learnable, Task

__all__ = ["AnyNetwork", "Bench", "located", "together"]


class AnyNetwork(Protocol):
    """A network that holds its parameters, whatever computes it."""

    layers: Layers

    def load(self, vector: Vector, part: str = "*", holds: Literal["weights", "buffers", "all"] = "all") -> None:
        """Set (a part of) the parameters."""

    def vector(self, part: str = "*", holds: Literal["weights", "buffers", "all"] = "all") -> Vector:
        """Read (a part of) the parameters."""

    def forward(self, rows: Array) -> Array:
        """Run scaled rows [rows, features] float32 through the network."""


N = TypeVar("N", bound=AnyNetwork)


class Bench(ABC, Generic[N]):
    """What is done for one job around training: keep, answer, load what was received; and in the end answer again and hand over.

    Parameters
    ----------
    detector, job, channels, seed, round, phase
        As `vedette.training.task.Trainer.run` got them.
    """

    def __init__(self, detector: Learnable, job: Job, channels: Sequence[Channel], seed: int, round: int, phase: str) -> None:
        self.detector, self.job, self.channels, self.seed, self.round = detector, job, channels, seed, round
        self.path = (seed, "round", round, phase, "node", job.node)
        self.memory: dict[str, Any] = {**job.memory, **job.work.keep}
        self.networks: dict[str, N] = {}
        self.tables: dict[str, Array] = dict(job.work.tables)
        self.facts: dict[str, float | str] = {"rows": float(len(job.rows))}

    @abstractmethod
    def made(self, layers: Layers) -> N:
        """Make a network; its parameters are loaded next."""

    def begin(self) -> None:
        """Answer the queries that tasks train on."""
        for name, query in self.job.work.queries.items():
            if name in self._wanted_first():
                self._answer(name, query)

    def ended(self) -> tuple[Done, Memory]:
        """Answer the other queries and hand over."""
        work = self.job.work
        for name, query in work.queries.items():
            if name not in self._wanted_first():
                self._answer(name, query)
        vectors = {c.name: self.network(c.role).vector(c.part, c.holds) for c in self.channels} if work.tasks else {}
        for role, network in self.networks.items():
            vector = network.vector()
            self.memory |= {f"network.{role}": vector.values, f"layout.{role}": vector.layout}
        answered = {name: table for name, table in self.tables.items() if name not in work.tables}
        return Done(vectors, Message(tables=answered, facts=self.facts)), self.memory

    def _wanted_first(self) -> set[str]:
        return {name for task in self.job.work.tasks for name in task.extra}

    def network(self, role: str) -> N:
        """Return a network by role, as the node last had it."""
        role = role or self.detector.role
        if role not in self.networks:
            network = self.blank(role)
            kept = self.memory.get(f"network.{role}")
            network.load(self.first(network, role) if kept is None else Vector(kept, str(self.memory[f"layout.{role}"])))
            self.networks[role] = network
        return self.networks[role]

    def blank(self, role: str) -> N:
        """Make this node's network of a role."""
        width = self.detector.samples(self.job.rows.take(slice(0, 0)), self.memory).width
        return self.made(self.detector.networks(width)[role])

    def first(self, network: N, role: str) -> Vector:
        """Return first weights; every node draws them from the same place of the seed tree, because averages need a common start."""
        return initial(network.layers, stream(self.seed, "initial", role))

    def forward(self, rows: Array) -> Array:
        """Run the network that scores; a detector without one looks at the rows themselves."""
        return self.network("").forward(rows) if self.detector.role else rows

    def tried(self, parts: Mapping[str, Vector], rows: Array) -> Array:
        """Run somebody else's network."""
        other = self.made(self.network("").layers)
        other.load(self.network("").vector())
        for channel in self.channels:
            if channel.name in parts:
                other.load(parts[channel.name], channel.part, channel.holds)
        return other.forward(rows)

    def _answer(self, name: str, query: Query) -> None:
        models = {model: partial(self.tried, parts) for model, parts in self.job.work.models.items()}
        asked = Asked(self.job.rows, self.memory, self.detector, self.forward, models)
        said = QUERIES[query.name](asked, query.settings, self.drawn("query", name))
        self.tables |= {f"{name}.{key}" if key else name: table for key, table in said.tables.items()}
        self.facts |= {f"{name}.{key}": fact for key, fact in said.facts.items()}

    def drawn(self, *path: int | str) -> np.random.Generator:
        """Return a random stream of this node's own in this phase."""
        return stream(*self.path, *path)

    def loaded(self, task: Task) -> N:
        """Return a task's network with what it starts from."""
        network = self.network(task.role)
        for channel in self.channels:
            if channel.name in task.start:
                given = task.start[channel.name]
                vector = self.network(given).vector(channel.part, channel.holds) if isinstance(given, str) else given
                network.load(vector, channel.part, channel.holds)
        return network

    def rows(self, task: Task, place: int) -> TrainingRows:
        """Return the rows that a task trains on.

        Raises
        ------
        DataUnusable
            There is none.
        """
        extra = [self.tables[name] for name in task.extra if name in self.tables and len(self.tables[name])]
        rng = None if isinstance(self.detector.balancer, Keep) else self.drawn("rebalance", place)
        rows = TrainingRows(self.detector, self.job.rows, self.memory, extra, rng)
        if not len(rows):
            raise DataUnusable("no training rows; check the partition and the labels")
        return rows

    def located(self) -> AbstractContextManager[None]:
        """Let errors within say whose they are, and in which round."""
        return located(self.job.node, self.round)

    def fitted(self, role: str, steps: int, loss: float) -> None:
        """Note what came of training a network."""
        self.facts |= {"steps": float(steps), "loss": loss, f"loss.{role}": loss}


@contextmanager
def located(node: str, round: int) -> Iterator[None]:
    """Let errors within say whose they are, and in which round."""
    try:
        yield
    except (DataUnusable, DetectorMisused, TrainingDiverged) as error:
        raise type(error)(f"node '{node}', round {round + 1}: {error}") from None


B = TypeVar("B", bound=Bench[Any])
R = TypeVar("R")


def together(
    benches: Sequence[B], ready: Callable[[B, int], R | None], key: Callable[[R], Hashable], train: Callable[[list[R]], None]
) -> None:
    """Carry out the tasks of several nodes, place by place, those that are alike at once; queries that they train on are answered before.

    Parameters
    ----------
    benches
        Of the nodes.
    ready
        A bench and the place of a task -> what is to be trained, or None if nothing is.
    key
        What those that are trained at once have in common.
    train
        Trains them.
    """
    for bench in benches:
        with bench.located():
            bench.begin()
    for place in range(max((len(bench.job.work.tasks) for bench in benches), default=0)):
        alike: dict[Hashable, list[R]] = {}
        for bench in benches:
            if place < len(bench.job.work.tasks):
                with bench.located():
                    found = ready(bench, place)
                if found is not None:
                    alike.setdefault(key(found), []).append(found)
        for group in alike.values():
            train(group)
