"""The cohort trainer: nodes with equal tasks are trained together, in batched matrix products."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field, PrivateAttr

from vedette.data.rebalance import Keep
from vedette.data.table import Table
from vedette.data.windows import Samples
from vedette.errors import TrainingDiverged
from vedette.message import Array, Channel, Memory, Vector
from vedette.training.bench import Bench, together
from vedette.training.cohort.slot import Shape, Slot
from vedette.training.cohort.stack import Stack
from vedette.training.rows import TrainingRows
from vedette.training.task import Distil, Done, Job, Layers, Learnable, Proximal, Task, Trainer
from vedette.training.trainer import DIVERGED, LoopTrainer

__all__ = ["CohortTrainer"]

CACHE = 2 << 20
"""Bytes that a chunk's weights, gradients and optimiser's state should not exceed (benchmarks/cohort.py)."""

MOST, UNIT = 64, 64
"""Nodes trained side by side, at most; and nodes that are looked at together."""

KEPT = 256 << 20
"""Bytes of scaled rows that are kept from round to round."""

HELD = 16 << 20
"""Bytes of rows that are held ready for a chunk at once."""

PARTS = 4
"""The last batch of a pass is filled up to a multiple of so many-th parts of a batch: nodes differ in what they hold, not in shape."""


class CohortTrainer(Trainer):
    """Trains dense networks of many nodes side by side, all others one by one with torch.

    Weights are those of the ordinary trainer to 1e-6 after the same batches.

    Parameters
    ----------
    chunk
        Nodes side by side; 0: as many as fit a cache.
    """

    chunk: int = Field(default=0, ge=0)

    _shapes: dict[Any, tuple[Learnable, Shape]] = PrivateAttr(default_factory=dict)
    _stacks: dict[Any, Stack] = PrivateAttr(default_factory=dict)
    _first: dict[Any, Vector] = PrivateAttr(default_factory=dict)
    _rows: dict[Table, TrainingRows] = PrivateAttr(default_factory=dict)
    _room: int = PrivateAttr(default=KEPT)

    @property
    def most(self) -> int:
        """Nodes that are looked at together; what a node comes to does not depend on the others, to the last bit."""
        return self.chunk or UNIT

    def run(
        self, detector: Learnable, jobs: Iterable[Job], channels: Sequence[Channel], seed: int, round: int, phase: str
    ) -> Iterator[tuple[str, Done, Memory]]:
        """Do the work of many nodes; see `vedette.training.task.Trainer`."""
        waiting = iter(jobs)
        while unit := list(islice(waiting, self.most)):
            benches = [_StackBench(self, detector, job, channels, seed, round, phase) for job in unit]
            together([bench for bench in benches if bench.stackable], _StackBench.ready, lambda ready: ready.key, self._trained)
            for bench in benches:
                if bench.stackable:
                    with bench.located():
                        done, memory = bench.ended()
                    yield bench.job.node, done, memory
                else:
                    yield from LoopTrainer().run(detector, [bench.job], channels, seed, round, phase)

    def shape(self, detector: Learnable, role: str, width: int) -> Shape:
        """Return what networks of a role share, for samples of so many values."""
        key, shapes = (id(detector), role, width), self._shapes
        if key not in shapes:
            # With the detector, so that no other one takes its place in memory, and with it its shapes.
            shapes[key] = detector, Shape(detector.networks(width)[role])
        return shapes[key][1]

    def rows(self, bench: _StackBench, task: Task, place: int, make: Callable[[Task, int], TrainingRows]) -> TrainingRows:
        """Return the rows that a task trains on; those of small tables stay scaled for the next round."""
        if task.extra or not isinstance(bench.detector.balancer, Keep):
            return make(task, place)
        table, scaler = bench.job.rows, bench.samples.scaler
        kept = self._rows.get(table)
        if kept is None or kept.samples.scaler is not scaler:
            room = self._room + (0 if kept is None else _bytes(kept))
            kept = make(task, place)
            if _bytes(kept) <= room:
                self._rows[table], self._room = kept, room - _bytes(kept)
        return kept

    def first(self, slot: Slot, seed: int, role: str, draw: Callable[[Slot, str], Vector]) -> Vector:
        """Return first weights, drawn once for all nodes."""
        key = id(slot.shape), seed, role
        if key not in self._first:
            self._first[key] = draw(slot, role)
        return self._first[key]

    def chunk_of(self, shape: Shape, detector: Learnable) -> int:
        """Return how many nodes are trained side by side."""
        kept = {"sgd": 3 if detector.optimiser.momentum else 2}.get(detector.optimiser.name, 4)
        return self.chunk or max(1, min(MOST, CACHE // (4 * kept * max(shape.layout.size, 1))))

    def _trained(self, alike: Sequence[_Ready]) -> None:
        most = self.chunk_of(alike[0].slot.shape, alike[0].bench.detector)
        for start in range(0, len(alike), most):
            self._descend(alike[start : start + most])

    def _stack(self, detector: Learnable, shape: Shape, nodes: int, batch: int) -> Stack:
        key = id(shape), nodes, batch
        if key not in self._stacks:
            if len(self._stacks) > 8:
                self._stacks.clear()
            loss = "cross-entropy" if detector.learning == "supervised" else detector.loss
            self._stacks[key] = Stack(shape.dense, nodes, batch, loss, detector.optimiser)
        return self._stacks[key].begun()

    def _descend(self, group: Sequence[_Ready]) -> None:
        """Train networks side by side."""
        first = group[0]
        task, settings, steps, batch = first.task, first.bench.detector.optimiser, first.steps, first.batch
        stack = self._stack(first.bench.detector, first.slot.shape, len(group), batch)
        for place, ready in enumerate(group):
            stack.weights[place] = ready.slot.values
        if first.state:
            for name, kept in stack.state.items():
                for place, ready in enumerate(group):
                    kept[place] = ready.state[name]
            stack.steps = int(first.state["steps"])
        pull = None
        if first.mu:
            pull = first.mu, np.stack([ready.anchor for ready in group if ready.anchor is not None])
        counts = np.array([len(ready.rows) for ready in group])
        feed = _Feed(group, counts, batch, first.filled)
        passes = feed.passes
        total, seen = np.zeros(len(group)), np.zeros(len(group))
        # What diverges is told in the end, by node.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for number in range(steps):
                inputs, labels, shares, held = feed.batch_of(number, steps)
                fit = stack.step(inputs, labels, shares, task.rate_at(settings, number / steps), pull)
                # What is reported is the fit to the rows in the last pass over them, without the terms, so that strategies compare.
                if steps - number <= passes:
                    total += fit * held
                    seen += held
        weights = stack.weights.copy()
        finite = np.isfinite(weights).all(axis=1) & np.isfinite(total)
        for place, ready in enumerate(group):
            if not finite[place]:
                with ready.bench.located():
                    raise TrainingDiverged(DIVERGED)
            ready.slot.values = weights[place]
            ready.bench.fitted(ready.role, steps, float(total[place] / seen[place]))
            if task.keep_optimiser:
                state = {name: kept[place] for name, kept in stack.state.items()}
                ready.bench.keep(ready.role, ready.slot.shape, state, stack.steps)


def _bytes(rows: TrainingRows) -> int:
    """Return what rows take once they are scaled."""
    return 4 * len(rows.samples) * rows.samples.scaler.width


class _Feed:
    """Rows of a chunk in the order of their steps, gathered a block of steps at a time."""

    def __init__(self, group: Sequence[_Ready], counts: Array, batch: int, filled: int) -> None:
        passes = math.ceil(filled / batch)
        self.group, self.counts, self.batch, self.filled, self.passes = group, counts, batch, filled, passes
        width = group[0].rows.samples.width
        self.block = max(1, min(passes, HELD // max(1, 4 * len(group) * batch * width)))
        self.inputs = np.zeros((len(group), self.block * batch, width), np.float32)
        self.labels = np.zeros((len(group), self.block * batch), np.float32)
        self._rngs = [ready.bench.drawn("task", ready.place) for ready in group]
        self._orders: list[Array] = []
        self._from = -1

    def batch_of(self, number: int, steps: int) -> tuple[Array, Array, Array | float, Array]:
        """Return inputs, labels, what each row counts in its node's loss, and rows of each node, of a step."""
        place = number % self.passes
        if not place:
            self._orders = [rng.permutation(int(count)) for rng, count in zip(self._rngs, self.counts, strict=True)]
            self._from = -1
        if self._from < 0 or not self._from <= place < self._from + self.block:
            self._gather(place, min(place + self.block, self.passes, place + steps - number))
        start = (place - self._from) * self.batch
        rows = min(self.filled - place * self.batch, self.batch)
        held = np.minimum(self.counts - place * self.batch, rows)
        part = slice(start, start + rows)
        inputs, labels = self.inputs[:, part], self.labels[:, part]
        if held.min() == rows:
            return inputs, labels, 1 / rows, held
        shares = (np.arange(rows) < held[:, None]) / held[:, None]
        return inputs, labels, shares[..., None].astype(np.float32), held

    def _gather(self, begin: int, end: int) -> None:
        self._from = begin
        for place, (ready, order) in enumerate(zip(self.group, self._orders, strict=True)):
            some = order[begin * self.batch : end * self.batch]
            ready.rows.fill(some, self.inputs[place, : len(some)], self.labels[place, : len(some)])
            # What is beyond counts nothing, but must be finite.
            self.inputs[place, len(some) : (end - begin) * self.batch] = 0


class _Ready(NamedTuple):
    """A task that can begin: whose, its network, and what all that are trained side by side have in common (`key`)."""

    bench: _StackBench
    place: int
    task: Task
    slot: Slot
    role: str
    rows: TrainingRows
    steps: int
    batch: int
    state: dict[str, Any]
    mu: float
    anchor: Array | None

    @property
    def filled(self) -> int:
        """Rows, and what the last batch is filled up with."""
        part = math.ceil(self.batch / PARTS)
        whole, rest = divmod(len(self.rows), self.batch)
        return whole * self.batch + min(math.ceil(rest / part) * part, self.batch)

    @property
    def key(self) -> Any:
        return (
            id(self.slot.shape),
            self.steps,
            self.batch,
            self.filled,
            self.task.span,
            self.task.keep_optimiser,
            self.state.get("steps"),
            self.mu,
        )


class _StackBench(Bench[Slot]):
    def __init__(
        self, trainer: CohortTrainer, detector: Learnable, job: Job, channels: Sequence[Channel], seed: int, round: int, phase: str
    ) -> None:
        super().__init__(detector, job, channels, seed, round, phase)
        self.trainer = trainer

    def made(self, layers: Layers) -> Slot:
        return Slot(Shape(layers))

    @cached_property
    def stackable(self) -> bool:
        """Tell whether all of the work is for dense networks, trained whole, without a teacher or an attacker."""
        if self.detector.adversary is not None or not self.detector.role:
            return not self.job.work.tasks
        for task in self.job.work.tasks:
            if task.trains != "*" or any(isinstance(term, Distil) for term in task.terms):
                return False
        if "scaling.about" not in self.memory:
            # Nothing is scaled yet, so no network is there that could be run.
            return not self.job.work.tasks
        roles = {task.role or self.detector.role for task in self.job.work.tasks} | {self.detector.role}
        return all(self._shape(role).dense for role in roles)

    @cached_property
    def samples(self) -> Samples:
        """This node's rows as its networks see them."""
        return self.detector.samples(self.job.rows, self.memory)

    def _shape(self, role: str) -> Shape:
        return self.trainer.shape(self.detector, role, self.samples.width)

    def blank(self, role: str) -> Slot:
        return Slot(self._shape(role))

    def first(self, network: Slot, role: str) -> Vector:
        return self.trainer.first(network, self.seed, role, super().first)

    def rows(self, task: Task, place: int) -> TrainingRows:
        return self.trainer.rows(self, task, place, super().rows)

    def ready(self, place: int) -> _Ready | None:
        """Load what a task starts from, and say what is to be done; None if that was all."""
        task = self.job.work.tasks[place]
        slot = self.loaded(task)
        if slot is None:
            return None
        rows, role, batch = self.rows(task, place), task.role or self.detector.role, task.batch or self.detector.optimiser.batch
        term = next((term for term in task.terms if isinstance(term, Proximal)), None)
        anchor = None if term is None else slot.values if term.anchor is None else term.anchor.values
        kept = self._kept(role, slot.shape) if task.keep_optimiser else {}
        steps = task.steps_over(len(rows), self.detector.optimiser.batch)
        return _Ready(self, place, task, slot, role, rows, steps, batch, kept, 0.0 if term is None else term.mu, anchor)

    def _kept(self, role: str, shape: Shape) -> dict[str, Any]:
        """Return the optimiser's state as it was after the role's last task, whoever trained it; nothing if it never was."""
        prefix = f"optimiser.{role}."
        names = [f"{entry.layer}.{entry.name}" for entry in shape.layout.entries]
        kept = {key.removeprefix(prefix): value for key, value in self.memory.items() if key.startswith(prefix)}
        found = {
            state: shape.layout.flat({name: kept[f"{name}/{state}"] for name in names}).values
            for state in ("exp_avg", "exp_avg_sq", "momentum_buffer")
            if f"{names[0]}/{state}" in kept
        }
        return {**found, "steps": int(kept.get(f"{names[0]}/step", 1))} if found else {}

    def keep(self, role: str, shape: Shape, state: dict[str, Array], steps: int) -> None:
        """Keep an optimiser's state for the role's next task, as the torch trainer keeps it."""
        for name, flat in state.items():
            for at, array in shape.layout.arrays(Vector(flat, shape.layout.hash)).items():
                self.memory[f"optimiser.{role}.{at}/{name}"] = array.copy()
                if name == "exp_avg":
                    self.memory[f"optimiser.{role}.{at}/step"] = np.array(steps, dtype=np.float32)
