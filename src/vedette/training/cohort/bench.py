"""A node's work in a cohort: what is to be trained, and what it has in common with that of others."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vedette.data.rebalance import Keep
from vedette.message import Array, Channel, Vector
from vedette.training.bench import Bench
from vedette.training.cohort.kept import Kept
from vedette.training.cohort.slot import Shape, Slot
from vedette.training.rows import TrainingRows
from vedette.training.task import Distil, Job, Layers, Learnable, Proximal, Task

__all__ = ["Lesson", "Ready", "StackBench"]

PARTS = 4
"""The last batch of a pass is filled up to a multiple of so many-th parts of a batch: nodes differ in what they hold, not in shape."""


class Lesson(NamedTuple):
    """How a network is trained, but for its rows and where it begins."""

    shape: Shape
    task: Task
    place: int
    role: str
    batch: int
    size: int
    steps: int
    filled: int
    mu: float
    begun: int
    """Steps that the optimiser has taken before."""

    def over(self, size: int, detector: Learnable) -> Lesson:
        """Return the same over so many rows."""
        part = -(-self.batch // PARTS)
        whole, rest = divmod(size, self.batch)
        filled = whole * self.batch + min(-(-rest // part) * part, self.batch)
        return self._replace(size=size, filled=filled, steps=self.task.steps_over(size, detector.optimiser.batch))


class Ready(NamedTuple):
    """A network that can be trained: whose (a bench may stand for several nodes that begin alike), on which rows, from where."""

    bench: StackBench
    node: str
    lesson: Lesson
    rows: TrainingRows
    start: Array
    anchor: Array | None
    state: Mapping[str, Array]

    def alike(self) -> Hashable:
        """Return what all that are trained side by side have in common."""
        lesson = self.lesson
        task = lesson.task
        return id(lesson.shape), lesson.steps, lesson.batch, lesson.filled, task.span, task.keep_optimiser, lesson.begun, lesson.mu


class StackBench(Bench[Slot]):
    """One node's work, done in a stack if it can be.

    Parameters
    ----------
    kept
        What is worked out once for many.
    detector, job, channels, seed, round, phase
        As `vedette.training.task.Trainer.run` got them.

    Attributes
    ----------
    stackable
        Whether all of the work is for dense networks, trained whole, without a teacher or an attacker.
    """

    def __init__(self, kept: Kept, detector: Learnable, job: Job, channels: Sequence[Channel], seed: int, round: int, phase: str) -> None:
        super().__init__(detector, job, channels, seed, round, phase)
        self.kept = kept
        self.scaled = kept.rows_of(detector, job.rows, self.memory)
        self.width = 0
        self.stackable = self._is_stackable()

    def made(self, layers: Layers) -> Slot:
        return Slot(Shape(layers))

    def _is_stackable(self) -> bool:
        """Tell whether all of the work is for dense networks, trained whole, without a teacher or an attacker."""
        tasks = self.job.work.tasks
        if "scaling.about" not in self.memory:
            # Nothing is scaled yet, so no network is there that could be run.
            return not tasks
        samples = self.detector.samples(self.job.rows, self.memory) if self.scaled is None else self.scaled.samples
        self.width = samples.width
        if self.detector.adversary is not None or not self.detector.role:
            return not tasks
        for task in tasks:
            if task.trains != "*" or not self._shape(task.role or self.detector.role).dense:
                return False
            for term in task.terms:
                if isinstance(term, Distil):
                    return False
        return bool(self._shape(self.detector.role).dense)

    def _shape(self, role: str) -> Shape:
        return self.kept.shape(self.detector, role, self.width)

    def blank(self, role: str) -> Slot:
        return Slot(self._shape(role))

    def first(self, network: Slot, role: str) -> Vector:
        return self.kept.first(network, self.seed, role, super().first)

    def loaded(self, task: Task) -> Slot:
        """Return a task's network with what it starts from, put together once where many begin anew with what all received."""
        role, start = task.role or self.detector.role, task.start
        if self.networks or f"network.{role}" in self.memory or any(isinstance(vector, str) for vector in start.values()):
            return super().loaded(task)
        shape, before = self._shape(role), self.kept.started
        if before is not None and before[0] is shape and before[1] == (self.seed, role) and before[2] is start:
            slot = self.networks[role] = Slot(shape)
            slot.values = before[3]
            return slot
        slot = super().loaded(task)
        self.kept.started = shape, (self.seed, role), start, slot.values
        return slot

    def rows(self, task: Task, place: int) -> TrainingRows:
        if task.extra or not isinstance(self.detector.balancer, Keep):
            return super().rows(task, place)
        if self.scaled is None:
            self.scaled = super().rows(task, place)
            self.kept.keep(self.detector, self.memory, self.scaled)
        return self.scaled

    def is_plain(self) -> bool:
        """Tell whether the work is one task that trains the network of all channels on the node's own rows."""
        work, role = self.job.work, self.detector.role
        if not self.stackable or len(work.tasks) != 1 or work.tasks[0].extra or not isinstance(self.detector.balancer, Keep):
            return False
        return all((channel.role or role) == (work.tasks[0].role or role) for channel in self.channels)

    def ready(self, place: int) -> Ready | None:
        """Load what a task starts from, and say what is to be done; None if that was all."""
        task, settings = self.job.work.tasks[place], self.detector.optimiser
        slot = self.loaded(task)
        if not task.trained:
            return None
        rows, role = self.rows(task, place), task.role or self.detector.role
        mu, anchor = 0.0, None
        for term in task.terms:
            if isinstance(term, Proximal):
                mu, anchor = term.mu, slot.values if term.anchor is None else term.anchor.values
        state, begun = self._state_of(role, slot.shape) if task.keep_optimiser else ({}, 0)
        lesson = Lesson(slot.shape, task, place, role, task.batch or settings.batch, 0, 0, 0, mu, begun).over(len(rows), self.detector)
        return Ready(self, self.job.node, lesson, rows, slot.values, anchor, state)

    def _state_of(self, role: str, shape: Shape) -> tuple[dict[str, Array], int]:
        """Return the optimiser's state and steps as they were after the role's last task, whoever trained it; nothing if it never was."""
        prefix = f"optimiser.{role}."
        names = [f"{entry.layer}.{entry.name}" for entry in shape.layout.entries]
        kept = {key.removeprefix(prefix): value for key, value in self.memory.items() if key.startswith(prefix)}
        found = {
            state: shape.layout.flat({name: kept[f"{name}/{state}"] for name in names}).values
            for state in ("exp_avg", "exp_avg_sq", "momentum_buffer")
            if f"{names[0]}/{state}" in kept
        }
        return found, int(kept.get(f"{names[0]}/step", 1)) if found else 0

    def keep(self, role: str, shape: Shape, state: dict[str, Array], steps: int) -> None:
        """Keep an optimiser's state for the role's next task, as the torch trainer keeps it."""
        for name, flat in state.items():
            for at, array in shape.layout.arrays(Vector(flat, shape.layout.hash)).items():
                self.memory[f"optimiser.{role}.{at}/{name}"] = array.copy()
                if name == "exp_avg":
                    self.memory[f"optimiser.{role}.{at}/step"] = np.array(steps, dtype=np.float32)
