"""The cohort trainer: nodes with equal tasks are trained together, in batched matrix products."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field, PrivateAttr

from vedette.data.rebalance import Keep
from vedette.data.table import Table
from vedette.errors import TrainingDiverged
from vedette.message import Array, Channel, Memory, Vector
from vedette.seeds import streams
from vedette.training.bench import Bench, located, together
from vedette.training.cohort.slot import Shape, Slot
from vedette.training.cohort.stack import Stack
from vedette.training.rows import TrainingRows
from vedette.training.task import Answered, Distil, Done, Job, Layers, Learnable, Proximal, Task, Trainer
from vedette.training.trainer import DIVERGED, LoopTrainer

__all__ = ["CohortTrainer"]

CACHE = 8 << 20
"""Bytes that a chunk's weights, gradients and optimiser's state should not exceed (benchmarks/cohort.py)."""

MOST, UNIT = 64, 64
"""Nodes trained side by side, at most; and nodes that are looked at together."""

KEPT = 256 << 20
"""Bytes of scaled rows that are kept from round to round."""

HELD = 4 << 20
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

    _kept: _Kept = PrivateAttr(default_factory=lambda: _Kept(KEPT))

    @property
    def most(self) -> int:
        """Nodes that are looked at together; what a node comes to does not depend on the others, to the last bit."""
        return self.chunk or UNIT

    def run(
        self, detector: Learnable, jobs: Iterable[Job], channels: Sequence[Channel], seed: int, round: int, phase: str
    ) -> Iterator[tuple[str, Done, Memory]]:
        """Do the work of many nodes; see `vedette.training.task.Trainer`."""
        waiting, kept = iter(jobs), self._kept
        while unit := list(islice(waiting, self.most)):
            benches = [_StackBench(kept, detector, job, channels, seed, round, phase) for job in unit]
            together([bench for bench in benches if bench.stackable], _StackBench.ready, _Ready.alike, self._trained)
            for bench in benches:
                if bench.stackable:
                    with bench.located():
                        done, memory = bench.ended()
                    yield bench.job.node, done, memory
                else:
                    yield from LoopTrainer().run(detector, [bench.job], channels, seed, round, phase)

    def run_alike(
        self, detector: Learnable, jobs: Iterable[Job], channels: Sequence[Channel], seed: int, round: int, phase: str
    ) -> Iterator[Answered]:
        """Do the same work on many nodes; see `vedette.training.task.Trainer`."""
        waiting = iter(jobs)
        while unit := list(islice(waiting, self.most)):
            first = _StackBench(self._kept, detector, unit[0], channels, seed, round, phase)
            group = self._alike(first, unit) if first.is_plain() else None
            if group is not None:
                yield self._answered(first, group)
                continue
            for node, done, _ in self.run(detector, unit, channels, seed, round, phase):
                vectors = {name: Vector(vector.values[None], vector.layout) for name, vector in done.vectors.items()}
                yield Answered((node,), vectors, {name: np.array([fact], dtype=np.float64) for name, fact in done.answers.facts.items()})

    def chunk_of(self, shape: Shape, detector: Learnable) -> int:
        """Return how many nodes are trained side by side."""
        kept = {"sgd": 3 if detector.optimiser.momentum else 2}.get(detector.optimiser.name, 4)
        return self.chunk or max(1, min(MOST, CACHE // (4 * kept * max(shape.layout.size, 1))))

    def _alike(self, first: _StackBench, unit: Sequence[Job]) -> list[_Ready] | None:
        """Return what the nodes of a unit train, if it differs in their rows alone."""
        with first.located():
            lead = first.ready(0)
        if lead is None:
            return None
        kept, found, lessons = self._kept, [lead], {lead.lesson.size: lead.lesson}
        for job in unit[1:]:
            rows = kept.rows_of(first.detector, job.rows, job.memory)
            if rows is None:
                with located(job.node, first.round):
                    rows = TrainingRows(first.detector, job.rows, job.memory)
                if rows.samples.width != first.width or not len(rows):
                    return None
                kept.keep(first.detector, job.memory, rows)
            size = len(rows)
            if size not in lessons:
                lessons[size] = lead.lesson.over(size, first.detector)
            found.append(_Ready(first, job.node, lessons[size], rows, lead.start, lead.anchor, lead.state))
        return found

    def _answered(self, first: _StackBench, group: Sequence[_Ready]) -> Answered:
        """Train networks that begin alike, and return what their nodes answer."""
        lesson, alike = group[0].lesson, dict[Hashable, list[int]]()
        for place, ready in enumerate(group):
            alike.setdefault(ready.alike(), []).append(place)
        most = self.chunk_of(lesson.shape, first.detector)
        if len(alike) == 1 and len(group) <= most:
            stack, losses = self._descend(group)
            weights = stack.weights
        else:
            weights, losses = self._kept.room_for(len(group), lesson.shape.layout.size), np.empty(len(group))
            for places in alike.values():
                for start in range(0, len(places), most):
                    some = places[start : start + most]
                    stack, losses[some] = self._descend([group[place] for place in some])
                    weights[some] = stack.weights
        vectors = {}
        for channel in first.channels:
            layout, at = lesson.shape.part(channel.part, channel.holds)
            vectors[channel.name] = Vector(weights if layout.size == weights.shape[1] else weights[:, at], layout.hash)
        steps = np.array([ready.lesson.steps for ready in group], dtype=np.float64)
        rows = np.array([len(ready.rows.samples) for ready in group], dtype=np.float64)
        return Answered(
            [ready.node for ready in group], vectors, {"rows": rows, "steps": steps, "loss": losses, f"loss.{lesson.role}": losses}
        )

    def _trained(self, alike: Sequence[_Ready]) -> None:
        lesson = alike[0].lesson
        most = self.chunk_of(lesson.shape, alike[0].bench.detector)
        for start in range(0, len(alike), most):
            group = alike[start : start + most]
            stack, losses = self._descend(group)
            weights = stack.weights.copy()
            for place, (ready, loss) in enumerate(zip(group, losses.tolist(), strict=True)):
                ready.bench.networks[lesson.role].values = weights[place]
                ready.bench.fitted(lesson.role, lesson.steps, loss)
                if lesson.task.keep_optimiser:
                    ready.bench.keep(lesson.role, lesson.shape, {name: kept[place] for name, kept in stack.state.items()}, stack.steps)

    def _descend(self, group: Sequence[_Ready]) -> tuple[Stack, Array]:
        """Train networks side by side; return where their weights are now, and their losses [nodes]."""
        lesson, bench = group[0].lesson, group[0].bench
        task, settings, steps = lesson.task, bench.detector.optimiser, lesson.steps
        stack = self._kept.stack(bench.detector, lesson.shape, len(group), lesson.batch)
        stack.weights[:] = _stacked([ready.start for ready in group])
        if lesson.begun:
            for name, kept in stack.state.items():
                kept[:] = _stacked([ready.state[name] for ready in group])
            stack.steps = lesson.begun
        pull = (lesson.mu, _stacked([ready.anchor for ready in group if ready.anchor is not None])) if lesson.mu else None
        feed = _Feed(group, stack)
        total, seen = np.zeros(len(group)), np.zeros(len(group))
        # What diverges is told in the end, by node.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for number in range(steps):
                inputs, labels, shares, held = feed.batch_of(number, steps)
                fit = stack.step(inputs, labels, shares, task.rate_at(settings, number / steps), pull)
                # What is reported is the fit to the rows in the last pass over them, without the terms, so that strategies compare.
                if steps - number <= feed.passes:
                    total += fit * held
                    seen += held
        finite = np.isfinite(stack.weights).all(axis=1) & np.isfinite(total)
        if not finite.all():
            with located(group[int(finite.argmin())].node, bench.round):
                raise TrainingDiverged(DIVERGED)
        return stack, total / seen


def _stacked(vectors: Sequence[Array]) -> Array:
    """Return [nodes, parameters], or the one vector that all of them are."""
    first = vectors[0]
    return first if all(vector is first for vector in vectors) else np.stack(vectors)


class _Kept:
    """What is worked out once for many nodes and rounds.

    Parameters
    ----------
    room
        Bytes of scaled rows that are kept.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.rows: dict[Table, tuple[Learnable, Any, TrainingRows]] = {}
        self._shapes: dict[Any, tuple[Learnable, Shape]] = {}
        self._stacks: dict[Any, Stack] = {}
        self._first: dict[Any, Vector] = {}
        self._room = np.empty(0, np.float32)
        self.started: tuple[Any, Any, Any, Array] | None = None
        """Shape, seed and what was received, of the last node that began anew, and the parameters it began with."""

    def __eq__(self, other: object) -> bool:
        """What is kept makes no trainer differ from another."""
        return isinstance(other, _Kept)

    __hash__ = None  # type: ignore[assignment]

    def shape(self, detector: Learnable, role: str, width: int) -> Shape:
        """Return what networks of a role share, for samples of so many values."""
        key = id(detector), role, width
        if key not in self._shapes:
            # With the detector, so that no other one takes its place in memory, and with it its shapes.
            self._shapes[key] = detector, Shape(detector.networks(width)[role])
        return self._shapes[key][1]

    def first(self, slot: Slot, seed: int, role: str, draw: Callable[[Slot, str], Vector]) -> Vector:
        """Return first weights, drawn once for all nodes."""
        key = id(slot.shape), seed, role
        if key not in self._first:
            self._first[key] = draw(slot, role)
        return self._first[key]

    def rows_of(self, detector: Learnable, table: Table, memory: Memory) -> TrainingRows | None:
        """Return a node's rows as they were scaled before, with the same scaler."""
        kept = self.rows.get(table)
        return kept[2] if kept is not None and kept[0] is detector and kept[1] is memory.get("scaling.numbers") else None

    def keep(self, detector: Learnable, memory: Memory, rows: TrainingRows) -> None:
        """Keep rows of small tables for the next round."""
        table, size = rows.samples.table, _bytes(rows)
        before = self.rows.get(table)
        room = self.room + (0 if before is None else _bytes(before[2]))
        if size <= room:
            self.rows[table], self.room = (detector, memory.get("scaling.numbers"), rows), room - size

    def room_for(self, nodes: int, size: int) -> Array:
        """Return an array [nodes, size] float32; its memory is used again."""
        if self._room.size < nodes * size:
            self._room = np.empty(nodes * size, np.float32)
        return self._room[: nodes * size].reshape(nodes, size)

    def stack(self, detector: Learnable, shape: Shape, nodes: int, batch: int) -> Stack:
        """Return room to train in."""
        key = id(shape), nodes, batch
        if key not in self._stacks:
            if len(self._stacks) > 8:
                self._stacks.clear()
            loss = "cross-entropy" if detector.learning == "supervised" else detector.loss
            self._stacks[key] = Stack(shape.dense, nodes, batch, loss, detector.optimiser)
        return self._stacks[key].begun()


def _bytes(rows: TrainingRows) -> int:
    """Return what rows take once they are scaled."""
    return 4 * len(rows.samples) * rows.samples.scaler.width


class _Feed:
    """Rows of a chunk in the order of their steps, gathered a block of steps at a time.

    Parameters
    ----------
    group
        The chunk.
    stack
        Where they are trained; it keeps room for the rows.
    """

    def __init__(self, group: Sequence[_Ready], stack: Stack) -> None:
        lesson, bench = group[0].lesson, group[0].bench
        batch, filled = lesson.batch, lesson.filled
        self.group, self.batch, self.filled, self.passes = group, batch, filled, math.ceil(filled / batch)
        self.counts = np.array([ready.lesson.size for ready in group])
        width = group[0].rows.samples.width
        self.block = max(1, min(self.passes, HELD // max(1, 4 * len(group) * batch * width)))
        self.inputs, self.labels = stack.room(self.block * batch)
        self._rngs = streams(bench.path[:-1], [ready.node for ready in group], ("task", lesson.place))
        self._orders: list[Array] = []
        self._from = -1

    def batch_of(self, number: int, steps: int) -> tuple[Array, Array | None, Array | float, Array | int]:
        """Return inputs, labels, what each row counts in its node's loss, and rows of each node, of a step."""
        place = number % self.passes
        if not place:
            self._orders = [rng.permutation(ready.lesson.size) for rng, ready in zip(self._rngs, self.group, strict=True)]
            self._from = -1
        if self._from < 0 or not self._from <= place < self._from + self.block:
            self._gather(place, min(place + self.block, self.passes, place + steps - number))
        start = (place - self._from) * self.batch
        rows = min(self.filled - place * self.batch, self.batch)
        part = slice(start, start + rows)
        inputs, labels = self.inputs[:, part], None if self.labels is None else self.labels[:, part]
        if place < self.passes - 1:
            return inputs, labels, 1 / rows, rows
        held = np.minimum(self.counts - place * self.batch, rows)
        if held.min() == rows:
            return inputs, labels, 1 / rows, rows
        shares = (np.arange(rows) < held[:, None]) / held[:, None]
        return inputs, labels, shares[..., None].astype(np.float32), held

    def _gather(self, begin: int, end: int) -> None:
        self._from = begin
        # What a node has no rows for counts nothing, but must be finite.
        self.inputs[:, max(0, int(self.counts.min()) - begin * self.batch) :] = 0
        for place, (ready, order) in enumerate(zip(self.group, self._orders, strict=True)):
            some = order[begin * self.batch : end * self.batch]
            ready.rows.fill(some, self.inputs[place, : len(some)], None if self.labels is None else self.labels[place, : len(some)])


class _Lesson(NamedTuple):
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

    def over(self, size: int, detector: Learnable) -> _Lesson:
        """Return the same over so many rows."""
        part = -(-self.batch // PARTS)
        whole, rest = divmod(size, self.batch)
        filled = whole * self.batch + min(-(-rest // part) * part, self.batch)
        return self._replace(size=size, filled=filled, steps=self.task.steps_over(size, detector.optimiser.batch))


class _Ready(NamedTuple):
    """A network that can be trained: whose (a bench may stand for several nodes that begin alike), on which rows, from where."""

    bench: _StackBench
    node: str
    lesson: _Lesson
    rows: TrainingRows
    start: Array
    anchor: Array | None
    state: Mapping[str, Array]

    def alike(self) -> Hashable:
        """Return what all that are trained side by side have in common."""
        lesson = self.lesson
        task = lesson.task
        return id(lesson.shape), lesson.steps, lesson.batch, lesson.filled, task.span, task.keep_optimiser, lesson.begun, lesson.mu


class _StackBench(Bench[Slot]):
    def __init__(self, kept: _Kept, detector: Learnable, job: Job, channels: Sequence[Channel], seed: int, round: int, phase: str) -> None:
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

    def ready(self, place: int) -> _Ready | None:
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
        lesson = _Lesson(slot.shape, task, place, role, task.batch or settings.batch, 0, 0, 0, mu, begun).over(len(rows), self.detector)
        return _Ready(self, self.job.node, lesson, rows, slot.values, anchor, state)

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
