"""Training described as data: what a node shall do, never how or where."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from pydantic import Field

from vedette.data.rebalance import Rebalancer
from vedette.data.table import Table
from vedette.data.windows import Samples
from vedette.message import Array, Channel, Memory, Message, Query, Vector
from vedette.settings import Settings
from vedette.training.evasion import Evasion
from vedette.training.rates import rate_at

__all__ = ["Answered", "Distil", "Done", "Job", "Layers", "Learnable", "Optimiser", "Proximal", "Task", "Trainer", "Work"]

Layers: TypeAlias = Sequence[Mapping[str, Any]]
"""A network as data, one mapping a layer: ``{"name": "encoder1", "kind": "dense", "inputs": 41, "outputs": 16}``."""


class Proximal(NamedTuple):
    """Adds ``mu / 2 · |w - anchor|²`` to the loss (FedProx, Li et al. 2020, eq. 2); no anchor means the weights the task starts from."""

    mu: float
    anchor: Vector | None = None


class Distil(NamedTuple):
    """Adds ``weight`` times the distance of the network's output to a teacher's (Hinton et al. 2015); the teacher has the same layers."""

    teacher: Vector
    weight: float = 1.0
    temperature: float = 1.0


class Task(NamedTuple):
    """One piece of training.

    Attributes
    ----------
    role
        Which network of the detector; "" is the one that scores.
    start
        Channel -> vector received, or the role of an earlier task whose part is taken over. Absent: the node's own weights.
    trains
        Glob over the layers that move.
    epochs
        Passes over the rows; a part of one is allowed, 0 only loads `start`.
    steps
        Local steps instead of epochs.
    batch
        Rows a step; the detector's own number if absent.
    terms
        What is added to the loss.
    extra
        Names of tables to train on as well: answers to this work's queries, or `Work.tables`.
        Rows are scaled, [n, features + 1] float32, the label last.
    keep_optimiser
        Whether the optimiser's state goes on from this role's last task.
    span
        Where in the whole training of this network the task begins and ends, 0 to 1; learning rates that fall go by it.
    """

    role: str = ""
    start: Mapping[str, Vector | str] = {}
    trains: str = "*"
    epochs: float = 1.0
    steps: int | None = None
    batch: int | None = None
    terms: tuple[Proximal | Distil, ...] = ()
    extra: tuple[str, ...] = ()
    keep_optimiser: bool = False
    span: tuple[float, float] = (0.0, 1.0)

    @property
    def trained(self) -> bool:
        """Whether anything moves; else `start` is only loaded."""
        return bool(self.epochs if self.steps is None else self.steps)

    def steps_over(self, rows: int, batch: int) -> int:
        """Return how many steps it takes over so many rows; `batch` is the detector's own."""
        return self.steps if self.steps is not None else max(1, math.ceil(self.epochs * rows / (self.batch or batch)))

    def rate_at(self, optimiser: Optimiser, done: float) -> float:
        """Return the learning rate when a share (0 to 1) of the task is done."""
        return optimiser.rate_at(self.span[0] + (self.span[1] - self.span[0]) * done)


class Work(NamedTuple):
    """What a node shall do in one phase: keep something, train, answer queries; in this order.

    Attributes
    ----------
    keep
        Goes into the node's memory first.
    tasks
        Training, in order.
    queries
        Questions to the rows by name; those that `tasks` train on (`Task.extra`) are answered before them, the others after.
    tables
        Received rows, for `Task.extra`.
    models
        Received networks by name, each by channel, for queries that try them.
    """

    keep: Memory = {}
    tasks: tuple[Task, ...] = ()
    queries: Mapping[str, Query] = {}
    tables: Mapping[str, Array] = {}
    models: Mapping[str, Mapping[str, Vector]] = {}

    @property
    def leaves_nothing(self) -> bool:
        """Whether it changes nothing in a node's memory but its networks, and asks for nothing."""
        return not self.keep and not self.queries and not any(task.keep_optimiser for task in self.tasks)


class Done(NamedTuple):
    """What came of a work.

    Attributes
    ----------
    vectors
        The part of each of the strategy's channels, as it stands now.
    answers
        Tables and facts of the queries, as ``"query.name"``; and the facts ``rows``, ``steps`` and
        ``loss`` of the last training, and ``loss.ROLE`` of each network.
    """

    vectors: Mapping[str, Vector]
    answers: Message


class Answered(NamedTuple):
    """What came of the same work on several nodes.

    Attributes
    ----------
    nodes
        Whose it is.
    vectors
        By channel; values are [nodes, parameters] float32, finite. Whoever goes on to the next may find others there: copy what is to stay.
    facts
        [nodes] float64 each; see `Done.answers`.
    """

    nodes: Sequence[str]
    vectors: Mapping[str, Vector]
    facts: Mapping[str, Array]

    def first(self) -> Message:
        """Return what the first of them answers."""
        vectors = {name: Vector(stacked.values[0], stacked.layout) for name, stacked in self.vectors.items()}
        return Message(vectors, facts={name: float(values[0]) for name, values in self.facts.items()})

    def each(self) -> Iterator[tuple[str, Message]]:
        """Yield node by node what it answers."""
        for place, node in enumerate(self.nodes):
            vectors = {name: Vector(stacked.values[place].copy(), stacked.layout) for name, stacked in self.vectors.items()}
            yield node, Message(vectors, facts={name: float(values[place]) for name, values in self.facts.items()})


class Job(NamedTuple):
    """A node's work with the node's rows and state."""

    node: str
    rows: Table
    work: Work
    memory: Memory


class Optimiser(Settings):
    """How weights move.

    Parameters
    ----------
    name
        ``"adam"``, ``"adamw"`` or ``"sgd"``.
    rate
        Learning rate.
    schedule
        How it changes over the whole training, all rounds together: ``"constant"``, or falling to 0 along a ``"cosine"``.
    decay
        Weight decay.
    momentum
        Of ``"sgd"``.
    batch
        Rows a step.
    """

    name: Literal["adam", "adamw", "sgd"] = "adam"
    rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    batch: int = Field(default=64, ge=1)

    def rate_at(self, done: float) -> float:
        """Return the learning rate when a share (0 to 1) of the training is done."""
        return rate_at(self.rate, self.schedule == "cosine", done)


class Learnable(Protocol):
    """What a trainer asks of a detector."""

    @property
    def learning(self) -> str:
        """``"one-class"`` networks reproduce their input, ``"supervised"`` ones tell the label."""

    @property
    def role(self) -> str:
        """The network that scores."""

    @property
    def loss(self) -> str:
        """What is minimised: ``"mse"``, ``"mae"`` or ``"cross-entropy"``."""

    @property
    def balancer(self) -> Rebalancer:
        """How training rows of supervised detectors are re-balanced."""

    @property
    def adversary(self) -> Evasion | None:
        """The attacker that training rows of supervised detectors are shown by, now and then (`vedette.training.evasion.hardened`)."""

    @property
    def optimiser(self) -> Optimiser:
        """How it is minimised."""

    def networks(self, features: int) -> Mapping[str, Layers]:
        """Return the networks by role for samples of so many values; they may differ from node to node."""

    def samples(self, table: Table, memory: Memory) -> Samples:
        """Return raw rows as the networks see them, by the scaler in a node's memory."""

    def residuals(self, inputs: Array, outputs: Array) -> Array:
        """Return [samples, values] float64, how far each output that counts is from what it should be."""

    def scores(self, inputs: Array, outputs: Array, memory: Memory) -> Array:
        """Return [samples] float64 >= 0, higher = more anomalous, of inputs and the network's outputs."""


class Trainer(Settings, ABC):
    """Base of those who carry out jobs: in a loop, or in little memory; the fields are settings."""

    @property
    def unit(self) -> int:
        """Consecutive jobs that stay together, because what one comes to may depend on the others in its last digits."""
        return 1

    @property
    def most(self) -> int:
        """Jobs that are done the faster for being together, though what one comes to does not depend on the others."""
        return self.unit

    def refuses(self, detector: Learnable, work: Work) -> str | None:
        """Say in one sentence why this work cannot be done here, or None."""
        return None

    @abstractmethod
    def run(
        self, detector: Learnable, jobs: Iterable[Job], channels: Sequence[Channel], seed: int, round: int, phase: str
    ) -> Iterator[tuple[str, Done, Memory]]:
        """Do the work of many nodes.

        Parameters
        ----------
        detector
            The same for all jobs.
        jobs
            Taken one after the other; never held all at once.
        channels
            Parts to read out afterwards.
        seed, round, phase
            Place in the seed tree; each node draws from its own branch, so the order of jobs does not matter.

        Yields
        ------
        tuple
            Node, what came of it, and the node's new memory.

        Raises
        ------
        TrainingDiverged
            A loss was no longer finite: node and round.
        """

    def run_alike(
        self, detector: Learnable, jobs: Iterable[Job], channels: Sequence[Channel], seed: int, round: int, phase: str
    ) -> Iterator[Answered] | None:
        """Do the same work, which leaves nothing in a node's memory, on many nodes; see `run`. None if that is no faster here."""
        return None


Forward: TypeAlias = Callable[[Array], Array]
"""A network's forward pass on scaled rows [rows, features] -> [rows, outputs], both float32."""
